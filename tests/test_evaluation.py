"""Runs scored end to end through the real entry point, on a tiny store with tiny networks."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from talkgen import evaluation, training
from talkgen.configuration import RunFolder, config_folder
from talkgen.data.clip import Clip
from talkgen.data.store import Store, StoreWriter
from talkgen.errors import TalkgenError
from talkgen.models.experts.syncnet import SyncNet, syncnet_input
from talkgen.models.vqgan.vqgan import build_vqgan
from talkgen.video.reader import probe

SIZE = 32
VQGAN = {
    "channels": 8,
    "multipliers": [1, 1, 2],
    "blocks": 1,
    "latent_channels": 8,
    "codes": 16,
    "code_dim": 8,
}
LENGTHS = (21, 9)  # of the test clips; further clips are for training


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of a moving pattern, larger than the networks' pictures: two for test, two for training."""
    root = tmp_path_factory.mktemp("prepared") / "small"
    y, x = np.mgrid[:48, :48]
    with StoreWriter(root) as writer:
        for number, frames in enumerate((*LENGTHS, 20, 20)):
            split = "test" if number < len(LENGTHS) else "train"
            clip = Clip(f"person{number}/talk", "folder", split, f"person{number}", frames, 25.0, 48)
            shift = np.arange(frames)[:, None, None] * 3
            video = np.stack([(5 * x + shift) % 256, 5 * y + 0 * shift, 128 + 0 * x + 0 * shift], -1)
            landmarks = np.full((frames, 68, 2), 24, np.float32)
            landmarks[:, 48:, 0] += np.linspace(-8, 8, 20)
            steps = round(frames * 3.2)
            mel = np.sin(np.arange(80 * steps, dtype=np.float32)).reshape(80, steps)
            warp = np.tile(np.eye(2, 3, dtype=np.float32), (frames, 1, 1))
            sound = np.zeros(frames * 640, np.int16)
            arrays = {"mel": mel, "waveform": sound, "landmarks": landmarks, "identity_warp": warp}
            writer.add(clip, video.astype(np.uint8), arrays | {"crop_matrix": warp})
    return root


def data_config(store: Path, frames: int = 1) -> dict[str, Any]:
    window = {"_target_": "talkgen.data.windows.WindowSettings", "frames": frames, "size": SIZE}
    return {"_target_": "talkgen.data.datamodule.TalkingFaceData", "root": str(store), "window": window}


def write_run(folder: Path, config: dict[str, Any], checkpoint: dict[str, Any], best: bool = False) -> None:
    run = RunFolder(folder)
    run.checkpoints.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(config), run.config)
    torch.save(checkpoint, run.best if best else run.last)
    if best:
        torch.save({"state_dict": {}}, run.last)


def vqgan_run(folder: Path, store: Path, seed: int, **extra: Any) -> torch.nn.Module:
    """Write a run whose weights are those of the returned network."""
    torch.manual_seed(seed)
    vqgan = build_vqgan(**VQGAN, kmeans_vectors=0)
    node = {"_target_": "talkgen.models.vqgan.vqgan.build_vqgan", **VQGAN, "kmeans_vectors": 0}
    system = {"_target_": "talkgen.systems.vqgan.VQGANSystem", "vqgan": node}
    weights = {f"vqgan.{key}": value for key, value in vqgan.state_dict().items()}
    config = {"system": system, "data": data_config(store)}
    write_run(folder, config, {"state_dict": weights | {"discriminator.x": torch.zeros(1)}, **extra})
    return vqgan.eval()


def evaluate(runs: Path, *overrides: str) -> int:
    return evaluation.main([f"paths.runs={runs}", "device=cpu", *overrides])


def read_table(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((folder / "table.json").read_text())
    return table


def cells(table: dict[str, Any], row: str) -> dict[str, Any]:
    (found,) = [one["cells"] for one in table["rows"] if one["name"] == row]
    return dict(found)


def resized(store: Path, number: int) -> np.ndarray:
    opened = Store.open(store)
    frames = opened.frames(opened.clips[number])
    return np.stack([cv2.resize(f, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for f in frames])


def test_reconstruction_table(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path / "none"))
    vqgan = vqgan_run(tmp_path / "runs" / "tiny", store, seed=0)
    assert evaluate(tmp_path / "runs") == 0
    out = tmp_path / "runs" / "tiny" / "evaluation"
    table = read_table(out)

    # What the run's row should say, computed without any of the evaluation's code.
    expected, codes = [], []
    for number in range(2):
        truth = resized(store, number)
        images = torch.from_numpy(truth).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            output = vqgan(images)
        made = ((output.reconstruction + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
        errors = ((made - truth) ** 2).mean((1, 2, 3))
        expected.append((10 * np.log10(255**2 / errors)).mean())
        codes.append(output.codes)
    run = cells(table, "tiny")
    per_clip = run["PSNR[rgb]"]["per_clip"]
    assert per_clip == pytest.approx({"person0/talk": expected[0], "person1/talk": expected[1]}, abs=1e-3)
    assert run["PSNR[rgb]"]["value"] == pytest.approx(np.mean(expected), abs=1e-3)
    half = codes[0].shape[1] // 2
    lower = torch.cat([c[:, half:].flatten() for c in codes])
    assert run["active codes[lower]"]["value"] == len(lower.unique())

    truth_row = cells(table, "ground truth")
    assert truth_row["PSNR[rgb]"]["value"] == 100
    assert truth_row["SSIM[wang]"]["value"] == pytest.approx(1)
    assert truth_row["active codes[lower]"]["absent"] == "–"
    assert 25 < cells(table, "ground truth, H.264 crf 18")["PSNR[rgb]"]["value"] < 60

    # Weights are missing: said, with the cure, and not made up.
    assert run["LMD[mouth,centred,px@256]"] == {
        "value": None,
        "interval": None,
        "per_clip": {},
        "absent": "n/a",
    }
    (note,) = table["notes"]
    assert "LMD[mouth,centred,px@256]" in note and "talkgen weights get scrfd_500m" in note

    printed = capsys.readouterr().out
    assert "| PSNR[rgb] ↑ " in printed and "### Reconstruction of 2 held-out clips" in printed
    assert "| tiny " in (out / "table.md").read_text()
    line = table["protocol"]["line"]
    assert "folder, test split" in line and "2 clips of 9 to 21 frames · 25 fps · 32 px" in line
    clips = list(csv.DictReader(io.StringIO((out / "per_clip.csv").read_text())))
    assert len(clips) == 3 * 2
    assert r"\toprule" in (out / "table.tex").read_text()
    info = probe(out / "sample.mp4")
    assert (info.width, info.height, info.frames, info.has_audio) == (2 * SIZE, SIZE, LENGTHS[0], True)
    assert cv2.imread(str(out / "sheet.png")).shape[1] == 3 * 192


def test_averaged_weights_are_scored(store: Path, tmp_path: Path) -> None:
    """A checkpoint whose averages are those of another network scores like that network."""
    scores = {}
    other = vqgan_run(tmp_path / "runs" / "other", store, seed=1)
    average = {f"vqgan.{name}": parameter.detach() for name, parameter in other.named_parameters()}
    buffers = {f"vqgan.{name}": value for name, value in other.named_buffers()}
    vqgan_run(tmp_path / "runs" / "averaged", store, seed=2)
    run = RunFolder(tmp_path / "runs" / "averaged")
    checkpoint = torch.load(run.last, weights_only=True)
    checkpoint["state_dict"] |= buffers
    torch.save(checkpoint, run.last)
    for name, extra in (("raw", {}), ("averaged", {"ema": average})):
        torch.save(checkpoint | extra, run.last)
        evaluate(tmp_path / "runs", "run=averaged", "frames=4", f"out={tmp_path / name}")
        scores[name] = cells(read_table(tmp_path / name), "averaged")["PSNR[rgb]"]["value"]
    evaluate(tmp_path / "runs", "run=other", "frames=4", f"out={tmp_path / 'other'}")
    wanted = cells(read_table(tmp_path / "other"), "other")["PSNR[rgb]"]["value"]
    assert scores["averaged"] == pytest.approx(wanted)
    assert scores["raw"] != pytest.approx(wanted)


def test_runs_side_by_side_and_choice_of_clips(store: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("method/stage", "second")):
        vqgan_run(tmp_path / "runs" / name, store, seed)
    evaluate(tmp_path / "runs", "runs=[method,second]", "clips=1", "frames=3")
    out = tmp_path / "runs" / "evaluation" / "method_stage+second"
    table = read_table(out)
    assert not (tmp_path / "runs" / "method" / "stage" / "evaluation").exists()
    assert [row["name"] for row in table["rows"][2:]] == ["method/stage", "second"]
    values = [row["cells"]["PSNR[rgb]"]["value"] for row in table["rows"][2:]]
    assert values[0] != values[1]
    assert table["protocol"]["frames"] == [3]
    assert probe(out / "sample.mp4").width == 3 * SIZE


def test_sync_expert_table(store: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    expert = SyncNet(width=0.0625, final_relu=False)
    node = {"_target_": "talkgen.models.experts.syncnet.SyncNet", "width": 0.0625, "final_relu": False}
    system = {
        "_target_": "talkgen.systems.sync_expert.SyncExpertSystem",
        "expert": node,
        "channel_order": "rgb",
    }
    weights = {f"expert.{key}": value for key, value in expert.state_dict().items()}
    config = {"system": system, "data": data_config(store, frames=5)}
    write_run(
        tmp_path / "runs" / "sync", config, {"state_dict": weights | {"loss.scale": torch.ones(())}}, True
    )
    assert evaluate(tmp_path / "runs", "run=sync", "batch_frames=3", "shifts=[1,4,5,6]") == 0
    table = read_table(tmp_path / "runs" / "sync" / "evaluation")
    assert [c["name"] for c in table["columns"]] == [
        "accuracy[%,shift=1]",
        "accuracy[%,shift=4]",
        "accuracy[%,shift=5]",
        "accuracy[%,shift=6]",
        "accuracy[%,shift=5..6]",
    ]
    # The same by hand: every window of both clips, one at a time.
    expert.eval()
    opened, per_clip = Store.open(store), {}
    for number, clip in enumerate(opened.clips[: len(LENGTHS)]):
        pictures = torch.from_numpy(resized(store, number)).permute(0, 3, 1, 2).float() / 127.5 - 1
        mel = torch.from_numpy(opened.array(clip, "mel"))
        mel = torch.cat([mel, mel[:, -1:].expand(-1, 16)], 1)  # the last window reaches over the end
        count, cosines = len(pictures) - 4, {}
        with torch.no_grad():
            face = [
                expert.embed_face(syncnet_input(pictures[t : t + 5][None], "rgb"))[0] for t in range(count)
            ]
            starts = [int(80 * t / 25) for t in range(count)]
            audio = [expert.embed_audio(mel[:, s : s + 16][None, None])[0] for s in starts]
        cosines = {(t, a): float(face[t] @ audio[a]) for t in range(count) for a in range(count)}
        pairs = [(t, t + s) for t in range(count) for s in (4, -4) if 0 <= t + s < count]
        if pairs:
            per_clip[clip.id] = 100 * np.mean([cosines[t, t] > cosines[t, a] for t, a in pairs])
    cell = cells(table, "sync")["accuracy[%,shift=4]"]
    assert cell["per_clip"] == pytest.approx(per_clip)
    assert len(per_clip) == 2


@pytest.mark.parametrize(
    ("experiment", "column"),
    [("swaptalk_vqgan", "PSNR[rgb]"), ("sync_expert", "accuracy[%,shift=1]")],
)
def test_what_training_leaves_behind_can_be_scored(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str, column: str
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["size=tiny", f"data.root={store}", "data.workers=0", "logger=csv", "steps=2"]
    if experiment == "swaptalk_vqgan":
        settings.append("system.perceptual=null")
    assert training.main([f"experiment={experiment}", "name=run", *settings]) == 0
    assert evaluate(tmp_path / "runs", "frames=12") == 0
    cell = cells(read_table(tmp_path / "runs" / "run" / "evaluation"), "run")[column]
    assert 0 <= cell["value"] <= 100
    assert list(cell["per_clip"]) == ["person0/talk", "person1/talk"]


def test_refusals_name_the_cure(store: Path, tmp_path: Path) -> None:
    with pytest.raises(TalkgenError, match=r"train one with: python train.py"):
        evaluate(tmp_path / "empty")
    vqgan_run(tmp_path / "runs" / "tiny", store, seed=0)
    with pytest.raises(TalkgenError, match=r"no trained run 'tyni'.*there are tiny"):
        evaluate(tmp_path / "runs", "run=tyni")
    with pytest.raises(TalkgenError, match="no val clips to score"):
        evaluate(tmp_path / "runs", "split=val")
    other = RunFolder(tmp_path / "runs" / "other")
    write_run(other.path, {"system": {"_target_": "a.b.C"}, "data": data_config(store)}, {"state_dict": {}})
    with pytest.raises(TalkgenError, match="different kinds"):
        evaluate(tmp_path / "runs", "runs=[tiny,other]")
    with pytest.raises(TalkgenError, match=r"no evaluation for a\.b\.C"):
        evaluate(tmp_path / "runs", "run=other")


@pytest.mark.parametrize("file", sorted((config_folder() / "metrics").glob("*.yaml")), ids=lambda f: f.stem)
def test_every_metrics_config_gives_columns_of_their_own(file: Path) -> None:
    from hydra import compose, initialize_config_dir

    from talkgen.configuration import build

    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose("evaluate", overrides=[f"metrics={file.stem}"])
    columns = [build(node).column for node in cfg.metrics.values()]
    assert len(set(columns)) == len(columns) >= 6


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    script = Path(evaluation.__file__).parents[2] / "evaluate.py"
    if not script.is_file():
        pytest.skip("not a checkout")
    start = time.monotonic()
    shown = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, check=True
    )
    assert time.monotonic() - start < 5  # under a second on an idle machine
    assert "runs=[A,B]" in shown.stdout
    code = (
        "import sys; from talkgen import evaluation;"
        "print([m for m in ('torch', 'numpy', 'lightning', 'cv2') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_run_elsewhere_and_a_device_that_is_not_there(store: Path, tmp_path: Path) -> None:
    vqgan_run(tmp_path / "elsewhere/one", store, 0)
    vqgan_run(tmp_path / "runs/two", store, 1)
    assert evaluate(tmp_path / "runs", f"run={tmp_path / 'elsewhere/one'}", "clips=1", "frames=3") == 0
    assert (tmp_path / "elsewhere/one/evaluation/table.md").is_file()
    with pytest.raises(TalkgenError, match="device=cudda cannot be used here"):
        evaluate(tmp_path / "runs", "device=cudda")
    with pytest.raises(TalkgenError, match=r"no landmarks of .dlibb.; there are auto, insightface"):
        evaluate(tmp_path / "runs", "landmarks=dlibb")
    with pytest.raises(TalkgenError, match="frames=0"):
        evaluate(tmp_path / "runs", "frames=0")
    (tmp_path / "runs/two/config.yaml").write_text("a: [")
    with pytest.raises(TalkgenError, match="not the config of a talkgen run"):
        evaluate(tmp_path / "runs")
