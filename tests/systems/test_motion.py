"""DisentTalk up to the motion, on a store of random faces: made, trained, judged and loaded."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from talkgen import training
from talkgen.audio.frame_features import FrameFeatures
from talkgen.cli import main
from talkgen.data.disentangled import Disentangled, load_statistics
from talkgen.data.motion_data import MotionData
from talkgen.data.store import Store
from talkgen.data.windows import WindowSettings
from talkgen.diffusion.dpm_solver import DPMSolver
from talkgen.diffusion.gaussian import GaussianDiffusion
from talkgen.errors import FileError, TalkgenError
from talkgen.losses.lip_sync import CosineBCELoss, ShiftedInfoNCE
from talkgen.losses.weights import MotionWeights
from talkgen.models.disenttalk.denoiser import MotionDenoiser
from talkgen.models.disenttalk.motion_codec import RegionCodec
from talkgen.models.disenttalk.motion_space import MotionSpace
from talkgen.models.disenttalk.noise import motion_schedule
from talkgen.models.experts.motion_syncnet import MotionSyncNet
from talkgen.systems.augmentation import FeatureAugmentation
from talkgen.systems.motion_codec import MotionCodecSystem
from talkgen.systems.motion_diffusion import Conditions, MotionDiffusionSystem
from talkgen.systems.motion_sync_expert import MotionSyncExpertSystem

ADAM = functools.partial(torch.optim.Adam, lr=2e-3)
SIZES = (6, 4, 20)


@pytest.fixture(scope="module")
def folder(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("disentangled")
    assert main(["disentangle", f"root={tiny_store}", f"out={out}"]) == 0
    return out


def data(root: Path, folder: Path, **more: object) -> MotionData:
    made = MotionData(str(root), str(folder), FrameFeatures("mel"), **more)  # type: ignore[arg-type]
    made.prepare_data()
    made.setup("fit")
    return made


def batch_of(root: Path, folder: Path, frames: int = 16, size: int = 4) -> dict[str, torch.Tensor]:
    loader = data(root, folder, window=WindowSettings(frames, stride=4), batch_size=size).train_dataloader()
    batch: dict[str, torch.Tensor] = next(iter(loader))
    return batch


def motion_system(folder: Path, **more: object) -> MotionDiffusionSystem:
    torch.manual_seed(0)
    settings: dict[str, object] = {
        "denoiser": MotionDenoiser(SIZES, 640, width=16, blocks=1, heads=2),
        "weights": MotionWeights(sync=0, velocity=1.0, smoothness=0.1, landmarks=0.1),
        **more,
    }
    return MotionDiffusionSystem(
        space=MotionSpace(SIZES),
        statistics=load_statistics(folder),
        diffusion=GaussianDiffusion(motion_schedule(), "x0", learned_range=False),
        sampler=DPMSolver(3),
        optimizer=ADAM,
        **settings,  # type: ignore[arg-type]
    )


def test_the_folder_holds_what_it_says(folder: Path, tiny_store: Path, capsys: pytest.CaptureFixture) -> None:
    opened = Disentangled(folder)
    assert opened.description.rule == "closed_form" and opened.description.sizes == SIZES
    assert opened.subspaces.sizes == (6, 4)
    table = (folder / "shares.md").read_text()
    assert all(rule in table for rule in ("closed_form", "index", "styletalk"))
    assert (folder / "subspaces.png").stat().st_size > 1000
    store = Store.open(tiny_store)
    array = opened.coefficients(store, progress=False).array(store.clips[0].id)
    assert array.shape == (40, 257) and np.ptp(array[:, :80], axis=0).max() == 0
    before = (folder / "coefficients" / "array.npy").stat().st_mtime_ns
    assert main(["disentangle", f"root={tiny_store}", f"out={folder}"]) == 0  # nothing is fitted again
    assert (folder / "coefficients" / "array.npy").stat().st_mtime_ns == before


def test_what_was_not_made_is_named(tmp_path: Path, tiny_store: Path) -> None:
    with pytest.raises(FileError, match="experiment=disenttalk_disentangle"):
        Disentangled(tmp_path)
    assert main(["disentangle", f"root={tiny_store}"]) == 1
    assert main(["disentangle", f"root={tiny_store}", f"out={tmp_path}", "make.rule=magic"]) == 1


def test_the_first_stage_is_made_once_and_with_one_rule(
    tiny_store: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = [
        "train", "experiment=disenttalk_disentangle", "size=tiny", f"data.root={tiny_store}", "name=made",
        f"paths.runs={tmp_path}",
    ]  # fmt: skip
    shutil.copytree(folder / "coefficients", tmp_path / "made" / "coefficients")
    assert main(arguments) == 0
    assert Disentangled(tmp_path / "made").statistics.sizes == SIZES
    assert "is made" not in capsys.readouterr().out
    assert main(arguments) == 0
    assert "made is made" in capsys.readouterr().out
    assert main([*arguments, "make.rule=index"]) == 1
    assert "make.rule: closed_form → index" in capsys.readouterr().err


def test_batches_are_motion_and_sound(folder: Path, tiny_store: Path) -> None:
    batch = batch_of(tiny_store, folder)
    assert batch["expression"].shape == (4, 16, 64) and batch["rest"].shape == (4, 64)
    assert batch["heard"].shape == (4, 16, 640)
    assert not {"video", "mel", "landmarks"} & batch.keys()
    source = data(tiny_store, folder)
    coefficients = source._opened()[0]
    name, first = batch["clip"][0], int(batch["frame"][0])
    stored = coefficients.array(name)[:, 80:144]
    np.testing.assert_array_equal(batch["expression"][0], stored[first : first + 16])
    np.testing.assert_allclose(batch["rest"][0], stored.mean(0), rtol=1e-6)
    with pytest.raises(TalkgenError, match="not those that the run was trained on"):
        source.load_state_dict({"motion": ["another", "key"]})
    source.load_state_dict(source.state_dict())
    assert data(tiny_store, folder, languages=["zh"]).clips("train") == []


def test_the_motion_stage_learns_and_is_judged(folder: Path, tiny_store: Path) -> None:
    system = motion_system(folder, conditions=Conditions(carried=4), sampled_batches=1)
    batch = batch_of(tiny_store, folder)
    logged: dict[str, float] = {}
    system.log = lambda name, value, **more: logged.__setitem__(name, float(value))  # type: ignore[method-assign]
    optimizer = system.configure_optimizers()
    losses = []
    for step in range(60):
        loss = system.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert {"train/motion", "train/velocity", "train/smoothness", "train/landmarks"} <= logged.keys()
    system.eval()
    with torch.no_grad():
        system.validation_step(batch, 0)
    wanted = {"motion", "lip", "eye", "rest", "opening", "opening_other", "amplitude"}
    assert {f"val/{name}" for name in wanted} <= logged.keys()
    first = logged["val/motion"]
    with torch.no_grad():
        system.validation_step(batch, 0)
    assert logged["val/motion"] == first  # the same noise
    assert not any(key.startswith("sync") for key in system.state_dict())


def test_only_the_denoiser_learns_from_sync(folder: Path, tiny_store: Path) -> None:
    expert = MotionSyncNet(640, 6, width=8, dim=8)
    system = motion_system(folder, expert=expert, weights=MotionWeights(0, 0, 0, sync=0.01))
    system.log = lambda *arguments, **more: None  # type: ignore[method-assign]
    system.training_step(batch_of(tiny_store, folder), 0).backward()
    assert system.denoiser.out.weight.grad is not None
    assert float(system.denoiser.out.weight.grad[:6].abs().sum()) > 0
    assert float(system.denoiser.out.weight.grad[6:].abs().sum()) == 0
    assert all(p.grad is None for p in expert.parameters())


def test_motion_can_be_diffused_as_latents(folder: Path, tiny_store: Path) -> None:
    codec = RegionCodec(SIZES, (5, 3, 7), width=8)
    denoiser = MotionDenoiser((5, 3, 7), 640, width=16, blocks=1, heads=2)
    system = motion_system(folder, codec=codec, denoiser=denoiser)
    system.log = lambda *arguments, **more: None  # type: ignore[method-assign]
    batch = batch_of(tiny_store, folder)
    assert system.motion(batch).shape == (4, 16, 15)
    system.training_step(batch, 0).backward()
    assert all(p.grad is None for p in codec.parameters())
    with pytest.raises(TalkgenError, match="numbers of the regions"):
        motion_system(folder, codec=codec)
    trained = MotionCodecSystem(codec, MotionSpace(SIZES), load_statistics(folder), MotionWeights(), ADAM)
    trained.log = lambda *arguments, **more: None  # type: ignore[method-assign]
    codec.requires_grad_(True)
    trained.training_step(batch, 0).backward()
    assert codec.decoders[0].third.weight.grad is not None


def test_without_regions_there_is_no_sync(folder: Path) -> None:
    with pytest.raises(TalkgenError, match="train both with the same speech="):
        motion_system(folder, weights=MotionWeights(), expert=MotionSyncNet(384, 6, width=8, dim=8))
    with pytest.raises(TalkgenError, match=r"weights\.sync needs an expert"):
        motion_system(folder, weights=MotionWeights())


@pytest.mark.parametrize(("geometry", "size"), [("subspace", 6), ("landmarks", 60)])
@pytest.mark.parametrize("loss", [ShiftedInfoNCE(), CosineBCELoss()])
def test_the_expert_takes_a_step(
    geometry: str, size: int, loss: torch.nn.Module, folder: Path, tiny_store: Path
) -> None:
    torch.manual_seed(0)
    relu = isinstance(loss, CosineBCELoss)
    system = MotionSyncExpertSystem(
        MotionSyncNet(640, size, width=16, dim=16, final_relu=relu),
        MotionSpace(SIZES),
        load_statistics(folder),
        loss,  # type: ignore[arg-type]
        ADAM,
        geometry,  # type: ignore[arg-type]
        augmentation=FeatureAugmentation("mel"),
        distances=(5,),
    )
    logged: dict[str, float] = {}
    system.log = lambda name, value, **more: logged.__setitem__(name, float(value))  # type: ignore[method-assign]
    source = data(tiny_store, folder, window=WindowSettings(5, stride=1), batch_size=8, windows_per_clip=4)
    batch = next(iter(source.train_dataloader()))
    system.training_step(batch, 0).backward()
    assert system.expert.mouth.last.weight.grad is not None
    system.eval()
    with torch.no_grad():
        for number, batch in enumerate(source.val_dataloader()):  # type: ignore[arg-type]
            system.validation_step(batch, number)
    system.on_validation_epoch_end()
    assert 0 <= logged["val/accuracy"] <= 1 and 0 <= logged["val/accuracy_5"] <= 1


def test_alone_in_a_batch_nothing_is_learned(folder: Path, tiny_store: Path) -> None:
    system = MotionSyncExpertSystem(
        MotionSyncNet(640, 6, width=8, dim=8), MotionSpace(SIZES), load_statistics(folder),
        ShiftedInfoNCE(), ADAM,
    )  # fmt: skip
    batch = batch_of(tiny_store, folder, frames=5, size=1)
    with pytest.raises(TalkgenError, match="windows_per_clip"):
        system.training_step(batch, 0)


def test_augmentation_keeps_what_is_heard_in_place() -> None:
    torch.manual_seed(0)
    heard = torch.randn(3, 6, 640)
    mel = FeatureAugmentation("mel", gain=0.1, shift=0)
    change = mel(heard) - heard
    torch.testing.assert_close(change, change[:, :1, :1].expand_as(change), atol=1e-5, rtol=0)
    noise = FeatureAugmentation("whisper", noise=0.2)(heard) - heard
    assert float(noise.std()) == pytest.approx(0.2 * float(heard.std()), rel=0.1)


@pytest.mark.parametrize("present", [True, False])
def test_a_run_hears_with_whisper_where_it_can(present: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.weights, "available", lambda name: present)
    began = OmegaConf.create({"speech": {"kind": "auto", "network": None, "dim": 640}})
    training.settle_speech(began, None)
    assert (began.speech.kind, began.speech.dim) == (("whisper", 384) if present else ("mel", 640))
    monkeypatch.setattr(training.weights, "available", lambda name: not present)
    later = OmegaConf.create({"speech": {"kind": "auto", "network": None, "dim": 640}})
    training.settle_speech(later, began)
    assert later.speech == began.speech  # whatever has been fetched since
