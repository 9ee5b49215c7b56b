"""A training stage without its corpus, its earlier stages and its pretrained files.

Networks of earlier stages and experts get random weights, batches are made of noise in the shapes of the
config: nothing of that changes what a step costs or whether processes agree. What stands in for a pretrained
file has the same architecture, but for recognisers that exist as ONNX files alone: an IResNet of about as
many operations stands for those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from talkgen.configuration import build, config_folder
from talkgen.data.swap_pairs import KINDS
from talkgen.data.windows import to_model_range
from talkgen.errors import TalkgenError
from talkgen.face3d.coefficients import SIZE as COEFFICIENTS
from talkgen.face3d.motion_statistics import MotionStatistics
from talkgen.losses.identity import IdentityLoss
from talkgen.losses.lip_sync import SyncLoss
from talkgen.losses.perceptual import LPIPS, GradientPyramidLoss, random_weights
from talkgen.losses.vgg_pyramid import VGGPyramidLoss
from talkgen.models.experts.arcface import SIZE as TEMPLATE
from talkgen.models.experts.arcface import IdentityNetwork
from talkgen.models.experts.iresnet import IResNet
from talkgen.models.experts.lip_view import LipView
from talkgen.models.experts.syncnet import SyncNet
from talkgen.models.frozen import Frozen

EXPRESSION_SIZE = 64
MOTION_RADIUS = 13  # frames around each of a renderer's pair
RECOGNISERS = {"arcface_r50": (50, 64)}  # depth and width of the published file
OTHER_RECOGNISER = (18, 24)  # 0.45 billion multiplications, as MobileFaceNet has
PASSED_ON = ("size", "vqgan_variant", "speech")  # overrides that earlier stages are composed with as well


# The system -------------------------------------------------------------------------------------------------


def stage_config(experiment: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The composed config of a stage; features of Whisper where `speech` is left to the machine.

    Args:
        experiment: a stage that trains a network.
        overrides: of the command, such as ``size=paper``.

    Raises:
        TalkgenError: the experiment trains no network of its own.
    """
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        given = [f"experiment={experiment}", "paths.run=run", "paths.stages=stages", *overrides]
        cfg = compose("train", overrides=given)
    if cfg.get("system") is None or cfg.steps is None:
        raise TalkgenError(f"experiment={experiment} trains no network of its own; name one of its stages")
    if cfg.get("speech") is not None and cfg.speech.kind == "auto":
        cfg.speech = OmegaConf.load(config_folder() / "speech/whisper.yaml")
    return cfg


def stage_system(cfg: DictConfig, overrides: Sequence[str] = ()) -> LightningModule:
    """The system of a stage with random weights throughout, as far into its run that every term acts.

    Args:
        cfg: of ``stage_config``.
        overrides: that it was composed with; earlier stages follow those that concern them.
    """
    earlier = [item for item in overrides if item.lstrip("+").split("=")[0].split(".")[0] in PASSED_ON]
    node = OmegaConf.to_container(cfg.system, resolve=True)
    system = build(OmegaConf.create(_stand_in(node, earlier)))
    if hasattr(system, "batches"):
        system.batches = int(cfg.steps)
    return system  # type: ignore[no-any-return]


def _stand_in(node: Any, earlier: Sequence[str]) -> Any:
    """The same node, with what would be loaded replaced by what is built."""
    if isinstance(node, list):
        return [_stand_in(item, earlier) for item in node]
    if not isinstance(node, dict):
        return node
    name = str(node.get("_target_", "")).rpartition(".")[2]
    if name == "load_trained":
        return _earlier_system(node["experiment"], earlier)[node["part"]]
    if name == "load_sync_loss":
        system = _earlier_system("sync_expert", earlier)
        kept = {key: system[key] for key in ("expert", "channel_order", "view")}
        return {"_target_": f"{__name__}.random_sync_loss", **kept}
    if name == "load_teacher":
        system = _earlier_system("diff2lip_diffusion", earlier)
        parts = {"unet": system["unet"], "diffusion": system["loss"]["diffusion"]}
        return {"_target_": "talkgen.models.diff2lip.inpainting.TrainedDenoiser", **parts}
    stand_ins = ("load_arcface", "identity_loss", "perceptual_loss", "renderer_perceptual")
    if name in stand_ins:
        return {**node, "_target_": f"{__name__}.random_{name.removeprefix('load_')}"}
    if name == "load_statistics":
        return {"_target_": f"{__name__}.random_statistics"}
    if name == "build_vqgan":  # k-means would wait for vectors of many batches
        node = {**node, "kmeans_vectors": 0}
    return {key: _stand_in(value, earlier) for key, value in node.items()}


def _earlier_system(experiment: str, overrides: Sequence[str]) -> dict[str, Any]:
    system = OmegaConf.to_container(stage_config(experiment, overrides).system, resolve=True)
    assert isinstance(system, dict)
    return {str(key): _stand_in(value, overrides) for key, value in system.items()}


def random_arcface(source: str) -> IdentityNetwork:
    """In place of ``load_arcface``."""
    depth, width = RECOGNISERS.get(source, OTHER_RECOGNISER)
    return IdentityNetwork(IResNet(depth, width=width)).eval().to(memory_format=torch.channels_last)


def random_identity_loss(recogniser: str | None, samples: int = 2) -> IdentityLoss | None:
    """In place of ``identity_loss``."""
    return None if recogniser is None else IdentityLoss(random_arcface(recogniser), samples)


def random_perceptual_loss(net: str) -> nn.Module:
    """In place of ``perceptual_loss``."""
    if net == "gradient_pyramid":
        return GradientPyramidLoss()
    return Frozen(LPIPS(net, random_weights(net)))  # type: ignore[arg-type]


def random_renderer_perceptual(net: str, style: float = 0.0) -> nn.Module:
    """In place of ``renderer_perceptual``."""
    if net == "vgg":
        return Frozen(VGGPyramidLoss(style, state=random_weights("vgg")))
    return random_perceptual_loss(net)


def random_sync_loss(expert: SyncNet, channel_order: str, view: LipView | None) -> SyncLoss:
    """In place of ``load_sync_loss``."""
    return SyncLoss(expert, channel_order, view)


def random_statistics(sizes: Sequence[int] = (6, 4, 20)) -> MotionStatistics:
    """In place of ``load_statistics``: directions at right angles to each other."""
    rng = np.random.default_rng(0)
    count = sum(sizes)
    directions = np.linalg.qr(rng.normal(size=(EXPRESSION_SIZE, count)))[0]
    return MotionStatistics(
        names=("lip", "eye", "global"),
        sizes=tuple(sizes),
        encode=directions,
        decode=directions.T,
        mean=rng.normal(size=EXPRESSION_SIZE),
        deviation=np.ones(count),
        between=np.ones(count),
        blink=np.zeros(count),
        landmarks=0.01 * rng.normal(size=(count, 204)),
    )


# Its batches ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BatchShape:
    """What the batches of a stage hold.

    Attributes:
        kind: class of its data, which says what keys there are.
        pixels: side of its pictures.
        frames: of a window.
        references: pictures of the same clip.
        shifted_mels: mels of other moments.
        mel_per_frame: whether there is a mel for each frame.
        sound: whether there is a mel at all.
        group: windows of a clip that stand together.
        grid: rows and columns of codes.
        codes: of a codebook.
        heard: numbers that a frame hears.
    """

    kind: str
    pixels: int
    frames: int
    references: int = 0
    shifted_mels: int = 0
    mel_per_frame: bool = False
    sound: bool = True
    group: int = 1
    grid: tuple[int, int] = (0, 0)
    codes: int = 2
    heard: int = 0


def batch_shape(cfg: DictConfig) -> BatchShape:
    """What the batches of a stage hold, from its config."""
    data, kind = cfg.data, str(cfg.data._target_).rpartition(".")[2]
    window = data.get("window") or OmegaConf.create({})
    pairs = kind == "MotionPairData"
    vqgan, swap = cfg.size.swaptalk_vqgan, cfg.size.swaptalk_face_swap
    of_codes = kind in ("LatentData", "SwapData")
    return BatchShape(
        kind,
        pixels=int((vqgan.image_size if of_codes else window.get("size")) or 0),
        frames=2 if pairs else int(window.get("frames", 1)),
        references=int(window.get("reference_frames", 0)),
        shifted_mels=int(window.get("shifted_mels", 0)),
        mel_per_frame=bool(window.get("mel_per_frame", False)),
        sound=bool(window.get("sound", True)),
        group=int(data.get("windows_per_clip") or 1),
        grid=tuple(swap.grid),
        codes=int(vqgan.codes),
        heard=int(cfg.speech.dim) if cfg.get("speech") is not None else 0,
    )


def samples(shape: BatchShape, numbers: Iterable[int]) -> dict[str, Any]:
    """The batch of these samples; a sample depends on its number alone. Pictures are uint8, as loaders give
    them."""
    made = [_sample(shape, number) for number in numbers]
    batch: dict[str, Any] = {}
    for key, value in made[0].items():
        column = [sample[key] for sample in made]
        batch[key] = column if isinstance(value, str) else torch.from_numpy(np.stack(column))
    return batch


def _sample(shape: BatchShape, number: int) -> dict[str, Any]:
    rng = np.random.default_rng((7, number))
    clip = number // shape.group
    sample: dict[str, Any] = {
        "clip": f"clip{clip}",
        "identity": np.int64(clip),
        "frame": np.int64(10 * (number % shape.group)),
    }
    if shape.kind == "SwapData":
        codes = {
            f"{who}_codes": rng.integers(shape.codes, size=shape.grid)
            for who in ("target", "source", "label")
        }
        warps = {f"{who}_warp": _warp(shape.pixels) for who in ("target", "source")}
        who = rng.normal(size=512).astype(np.float32)
        kind = np.int64(number % len(KINDS))
        return sample | codes | warps | {"kind": kind, "source_identity": who / np.linalg.norm(who)}
    if shape.kind == "MotionData":
        steps = rng.normal(size=(shape.frames, EXPRESSION_SIZE)).cumsum(0)
        heard = rng.normal(size=(shape.frames, shape.heard)).astype(np.float32)
        rest = steps.mean(0)
        return sample | {
            "expression": steps.astype(np.float32), "rest": rest.astype(np.float32), "heard": heard,
        }  # fmt: skip
    sample["landmarks"] = _landmarks(rng, shape.frames, shape.pixels)
    if shape.kind == "MotionPairData":
        around = (2, 2 * MOTION_RADIUS + 1, COEFFICIENTS)
        return sample | {
            "video": _pictures(rng, 2, shape.pixels),
            "coefficients": rng.normal(size=around).astype(np.float32),
        }
    sample["identity_warp"] = np.repeat(_warp(shape.pixels)[None], shape.frames, 0)
    if shape.kind == "LatentData":
        sample["codes"] = rng.integers(shape.codes, size=(shape.frames, *shape.grid))
        if shape.references:
            sample["reference_codes"] = rng.integers(shape.codes, size=(shape.references, *shape.grid))
    else:
        sample["video"] = _pictures(rng, shape.frames, shape.pixels)
        if shape.references:
            sample["reference"] = _pictures(rng, shape.references, shape.pixels)
    if shape.sound:
        sample["mel"] = _mels(rng, 1)[0]
        if shape.shifted_mels:
            sample["shifted_mel"] = _mels(rng, shape.shifted_mels)
        if shape.mel_per_frame:
            sample["mel_per_frame"] = _mels(rng, shape.frames)
    return sample


def _pictures(rng: np.random.Generator, count: int, pixels: int) -> np.ndarray:
    return rng.integers(0, 256, (count, pixels, pixels, 3), np.uint8)


def _mels(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.uniform(-4, 4, (count, 1, 80, 16)).astype(np.float32)


def _warp(pixels: int) -> np.ndarray:
    return np.array([[TEMPLATE / pixels, 0, 0], [0, TEMPLATE / pixels, 0]], np.float32)


def _landmarks(rng: np.random.Generator, frames: int, pixels: int) -> np.ndarray:
    """A drawn face whose mouth opens and shuts, iBUG points (frames, 68, 2)."""

    def ellipse(x: float, y: float, width: float, height: float, count: int) -> np.ndarray:
        turn = np.pi + 2 * np.pi * np.arange(count) / count
        return np.stack([x + width * np.cos(turn), y + height * np.sin(turn)], axis=1)

    def line(x: tuple[float, float], y: tuple[float, float], count: int) -> np.ndarray:
        return np.stack([np.linspace(*x, count), np.linspace(*y, count)], axis=1)

    turn = np.linspace(np.pi, 0, 17)
    jaw = np.stack([0.5 + 0.35 * np.cos(turn), 0.45 + 0.45 * np.sin(turn)], axis=1)
    fixed = [
        jaw, line((0.22, 0.42), (0.3, 0.3), 5), line((0.58, 0.78), (0.3, 0.3), 5),
        line((0.5, 0.5), (0.38, 0.55), 4), line((0.42, 0.58), (0.6, 0.6), 5),
        ellipse(0.32, 0.4, 0.06, 0.03, 6), ellipse(0.68, 0.4, 0.06, 0.03, 6),
    ]  # fmt: skip
    faces = []
    for opening in rng.uniform(0.01, 0.05, frames):
        mouth = [ellipse(0.5, 0.74, 0.14, 0.03 + opening, 12), ellipse(0.5, 0.74, 0.1, opening, 8)]
        faces.append(np.concatenate([*fixed, *mouth]))
    moved = np.stack(faces) + rng.normal(0, 0.004, (frames, 68, 2))
    return (pixels * moved).astype(np.float32)


class RehearsalData(LightningDataModule):
    """Batches that are there already, again and again.

    Args:
        batches: what is handed out in turn; pictures may be uint8.
        count: batches of the run.
    """

    def __init__(self, batches: Sequence[dict[str, Any]], count: int) -> None:
        super().__init__()
        self.batches = list(batches)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(self.count):
            yield dict(self.batches[number % len(self.batches)])

    def train_dataloader(self) -> RehearsalData:
        """The batches."""
        return self

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Pictures become float on the device."""
        return to_model_range(batch)


def frames_of(batch: dict[str, Any]) -> int:
    """Frames that a batch trains on: pictures, their codes, or motion of so many."""
    for key in ("video", "codes", "expression"):
        if key in batch:
            value: Tensor = batch[key]
            return len(value) * value.shape[1]
    return len(batch["target_codes"])
