"""SwapTalk in use: source picture + target video + driving audio → video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from talkgen.audio.alignment import frames_in
from talkgen.audio.mel import mel_spectrogram
from talkgen.audio.waveform import load_waveform
from talkgen.configuration import RunFolder
from talkgen.data.store import Store
from talkgen.errors import FileError, TalkgenError
from talkgen.faces.crop import CROPS, CropSettings, crop_frame
from talkgen.faces.detection import make_detector
from talkgen.inference.cascade import Cascade, SwapTalk
from talkgen.inference.changed_video import Written, write_changed
from talkgen.inference.runs import checkpoint_file, load_network, load_trained, run_config
from talkgen.inference.stages import SWAP_STAGE, SYNC_STAGE, VQGAN_STAGE
from talkgen.inference.target_video import (
    TargetVideo,
    crop_source,
    face_region,
    follow_face,
    ping_pong,
    read_picture,
    whole_crop,
)
from talkgen.inference.vqgan import load_vqgan
from talkgen.video.reader import probe


def load_swaptalk(
    folder: str | Path,
    cascade: Cascade | None = None,
    checkpoint: str = "best",
    decoder: str | Path | None = None,
    device: str = "cpu",
    batch_frames: int = 20,
    bf16: bool = False,
) -> SwapTalk:
    """SwapTalk from the folder of its stages, such as ``runs/swaptalk-demo``.

    Either module may be absent. The VQGAN is the one that the modules were trained on.

    Args:
        folder: of the method.
        cascade: order and space.
        checkpoint: ``"best"`` or ``"last"`` of each stage.
        decoder: run of ``experiment=swaptalk_light_decoder`` on the same VQGAN, which decodes in its place.
        device, batch_frames, bf16: see ``SwapTalk``.

    Raises:
        TalkgenError: there is no such folder or module, or the modules are of different VQGANs.
    """
    runs = _module_runs(folder)
    place = vqgan_of(folder)
    vqgan, size = load_vqgan(_checkpoint(place, checkpoint))
    window: dict[str, Any] = {}
    if SYNC_STAGE in runs:
        heard = OmegaConf.select(run_config(runs[SYNC_STAGE]), "system.audio", default="mel_per_frame")
        if heard != "mel_per_frame":
            raise FileError(
                runs[SYNC_STAGE].path,
                f"was trained on {heard}; only what hears mel spectrograms can be scored and used on files",
            )
        settings = OmegaConf.select(run_config(runs[SYNC_STAGE]), "data.window")
        window = {
            "window": int(settings.get("frames", 5)),
            "mel_convention": str(settings.get("mel_per_frame_convention", "official")),
            "references": max(1, int(settings.get("reference_frames", 1))),
        }
    return SwapTalk(
        vqgan,
        load_network(runs[SWAP_STAGE], "face_swap", checkpoint) if SWAP_STAGE in runs else None,
        load_network(runs[SYNC_STAGE], "lip_sync", checkpoint) if SYNC_STAGE in runs else None,
        size=size,
        cascade=cascade,
        decoder=None if decoder is None else load_trained(decoder, "decoder", "swaptalk_light_decoder"),
        device=device,
        batch_frames=batch_frames,
        bf16=bf16,
        crop=training_crop(place),
        **window,
    )


def _checkpoint(run: Path, checkpoint: str) -> Path:
    """A checkpoint is taken as it is given; of a run folder, the best or the last one."""
    return run if run.is_file() else checkpoint_file(RunFolder(run), checkpoint)


def vqgan_of(folder: str | Path) -> Path:
    """The run (or checkpoint) of the VQGAN whose latents the modules of a method know.

    Raises:
        FileError: there is no module, or they are of different VQGANs.
    """
    places: dict[Path, str] = {}
    for stage, run in _module_runs(folder).items():
        named = OmegaConf.select(run_config(run), "vqgan")
        place = Path(str(named)) if named else Path(folder) / VQGAN_STAGE
        if not place.exists():  # a method's folder that was moved has taken its stages along
            place = Path(folder) / VQGAN_STAGE
        places.setdefault(place.resolve(), stage)
    if len(places) > 1:
        listed = " and ".join(f"{stage} of {place}" for place, stage in places.items())
        raise FileError(folder, f"its modules were trained on different VQGANs ({listed}); train one anew")
    return next(iter(places))


def _module_runs(folder: str | Path) -> dict[str, RunFolder]:
    runs = {stage: RunFolder(Path(folder) / stage) for stage in (SWAP_STAGE, SYNC_STAGE)}
    runs = {stage: run for stage, run in runs.items() if run.last.is_file()}
    if not runs:
        raise FileError(
            folder,
            f"holds neither a trained {SWAP_STAGE} nor {SYNC_STAGE}; give the folder of a method, "
            "or train one: python train.py experiment=swaptalk",
        )
    return runs


def training_crop(run: str | Path) -> CropSettings:
    """How the faces that a run was trained on were cut: its store says; without the store, the default."""
    folder = Path(run) if Path(run).is_dir() else Path(run).parents[1]
    root = OmegaConf.select(run_config(RunFolder(folder)), "data.root")
    try:
        store = Store.open(root)
    except FileError:
        return CROPS["face"]
    return replace(CROPS[store.description["settings"].get("crop", "face")], size=store.size)


# From files to a file --------------------------------------------------------------------------------------


def generate(
    model: SwapTalk,
    source: str | Path | None,
    target: str | Path,
    driving_audio: str | Path | None,
    out: str | Path,
    detector: str = "insightface",
    detect_every: int = 1,
    choose: str = "size",
    paste: Literal["face", "crop"] = "face",
    label: str | None = None,
    crf: float = 18,
    progress: bool = True,
    watermark: bool = True,
) -> Written:
    """A video of the target with the source's face, who says what is heard in the driving audio.

    It has the target's resolution and frame rate, lasts as long as the sound (the target is cut, or runs
    forwards and backwards until the sound ends), and its metadata says that it is synthetic. Frames in
    which no face is found stay as they are. Without lip-sync it lasts as long as the target.

    Args:
        model: the trained parts.
        source: picture of who shall be seen; None keeps the target's own face.
        target: video that gives pose, expression and background.
        driving_audio: audio or video file; None takes the target's own sound.
        out: ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``.
        detector: name of a face detector.
        detect_every: look for faces in every so many frames only.
        choose: which face of several: ``size``, ``longest`` or ``index:N``.
        paste: put back the ``face`` alone (an ellipse), or the whole ``crop``.
        label: visible text in the corner of every frame; None: only the metadata tell.
        crf: H.264 quality.
        progress: show bars.
        watermark: whether the frames bear the invisible watermark of generated video.

    Returns:
        ``out`` and what is in it.

    Raises:
        TalkgenError: a file cannot be used, there is no face, or the model lacks a module.
    """
    model = for_inputs(model, source is not None, driving_audio is not None)
    finder = make_detector(detector)
    face = None if source is None else crop_source(read_picture(source), model.crop, finder, source)
    sound = driving_audio or (target if model.lip_sync is not None or probe(target).has_audio else None)
    waveform = None if model.lip_sync is None or sound is None else load_waveform(sound)
    video = follow_face(target, model.crop, finder, choose, detect_every, progress)
    order = np.arange(len(video))
    mel = None
    if waveform is not None:
        frames = frames_in(len(waveform), fps=video.fps)
        if frames < 1:
            raise FileError(str(sound), f"its sound lasts less than one frame at {video.fps:g} fps")
        order, mel = ping_pong(len(video), frames), mel_spectrogram(waveform)
    template = _TemplateCodes(model, video)
    seen = np.unique(order[video.has_face[order]])
    if not len(seen):
        raise FileError(target, f"no face is seen in its first {len(order)} frames, which the sound lasts")
    chosen = seen[np.linspace(0, len(seen) - 1, model.references + 2).round().astype(int)[1:-1]]
    state = model.begin(
        None if face is None else model.encode(face[None]),
        None if mel is None else template(list(video.read(chosen)), chosen),
    )

    def change(
        frames: Sequence[NDArray[np.uint8]], numbers: NDArray[np.int64], shown: Sequence[int]
    ) -> NDArray[np.uint8]:
        sounds = None if mel is None else model.mel_of_frames(mel, shown, video.fps)
        return model.pictures(template(frames, numbers), sounds, state)

    lips_only = state.memory is None
    mask = whole_crop(model.size) if paste == "crop" and not lips_only else None
    if mask is None:
        mask = face_region(model.crop, model.size, lower_half=lips_only)
    scale = model.size / model.crop.size
    batch = model.batch_frames
    return write_changed(
        video, order, change, mask, scale, Path(out), sound, batch, label, crf, progress, watermark
    )


def for_inputs(model: SwapTalk, source: bool, driving_audio: bool) -> SwapTalk:
    """The model, or without the face-swapping module where there is no source.

    Raises:
        TalkgenError: there is an input for a module that the model lacks, or nothing to be done.
    """
    if source and model.face_swap is None:
        raise TalkgenError("this model has no face-swapping module; leave the source out")
    if driving_audio and model.lip_sync is None:
        raise TalkgenError("this model has no lip-sync module; leave the driving audio out")
    if not source and model.lip_sync is None:
        raise TalkgenError("there is nothing to do: give a source picture")
    return model if source else model.variant(model.cascade, swap=False)


class _TemplateCodes:
    """Codes of a target's frames, each encoded once, however often a video that runs to and fro shows it."""

    def __init__(self, model: SwapTalk, video: TargetVideo) -> None:
        self.model = model
        self.video = video
        self.known = np.zeros(len(video), bool)
        self.codes: NDArray[np.uint16] | None = None  # 800 bytes a frame at 20 × 20

    def __call__(self, frames: Sequence[NDArray[np.uint8]], numbers: NDArray[np.integer]) -> Tensor:
        """Whole frames and their numbers → codes, int64 (n, h, w)."""
        # One place for each number: where the video turns, a batch shows a frame twice.
        places = {int(number): place for place, number in enumerate(numbers) if not self.known[number]}
        new = list(places.values())
        if new:
            size = self.model.crop.size
            crops = [crop_frame(frames[place], self.video.matrices[numbers[place]], size) for place in new]
            codes = self.model.encode(np.stack(crops)).numpy().astype(np.uint16)
            if self.codes is None:
                self.codes = np.empty((len(self.video), *codes.shape[1:]), np.uint16)
            self.codes[numbers[new]] = codes
            self.known[numbers[new]] = True
        assert self.codes is not None
        return torch.from_numpy(self.codes[numbers].astype(np.int64))
