"""``python evaluate.py``: score runs on held-out clips against ground truth, and write tables.

Heavy libraries are imported where scoring begins, so that ``--help`` and refusals answer at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from talkgen.configuration import RunFolder, build, find_runs, hydra_command
from talkgen.errors import TalkgenError
from talkgen.inference.runs import checkpoint_file, load_network, run_config

if TYPE_CHECKING:
    from talkgen.data.datamodule import TalkingFaceData
    from talkgen.metrics.contenders import Contender, Generated
    from talkgen.metrics.held_out import HeldOutClips
    from talkgen.metrics.table import Cell, Table
    from talkgen.models.vqgan.vqgan import VQGAN

RECONSTRUCTION = "talkgen.systems.vqgan.VQGANSystem"
SYNC_EXPERT = "talkgen.systems.sync_expert.SyncExpertSystem"


def main(arguments: Sequence[str]) -> int:
    """``talkgen evaluate`` and ``python evaluate.py``.

    Args:
        arguments: Hydra overrides.
    """
    return hydra_command("evaluate", run, arguments)


def run(cfg: DictConfig) -> int:
    """Score what the composed config names; see ``configs/evaluate.yaml``.

    Raises:
        TalkgenError: there is no such run, or it cannot be scored.
    """
    runs = choose_runs(Path(cfg.paths.runs), cfg.run, list(cfg.runs))
    kinds = {str(run_config(folder).system._target_) for folder in runs}
    if len(kinds) > 1:
        raise TalkgenError(f"runs of different kinds do not fit into one table: {', '.join(sorted(kinds))}")
    out = Path(cfg.out) if cfg.out else runs[0].path / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    names = [os.path.relpath(folder.path, cfg.paths.runs) for folder in runs]
    if kinds == {RECONSTRUCTION}:
        table = score_reconstruction(cfg, dict(zip(names, runs, strict=True)), out)
    elif kinds == {SYNC_EXPERT}:
        table = score_sync_experts(cfg, dict(zip(names, runs, strict=True)))
    else:
        raise TalkgenError(f"{runs[0].path}: there is no evaluation for {kinds.pop()} yet")
    write_table(table, out)
    files = ", ".join(sorted(file.name for file in out.iterdir()))
    print(f"\n{table.markdown(upright=True)}\nwritten to {out}: {files}")
    return 0


def choose_runs(folder: Path, name: str | None, names: Sequence[str]) -> list[RunFolder]:
    """The runs to score: those of ``names``, or ``name``, or the newest.

    A name may be a method's folder; then its newest stage is meant.

    Raises:
        TalkgenError: one does not exist; the message lists those that do.
    """
    if name and names:
        raise TalkgenError("give run=NAME or runs=[NAME,NAME], not both")
    every = find_runs(folder)
    if not every:
        raise TalkgenError(
            f"there is no trained run in {folder}; train one with: python train.py experiment=swaptalk"
        )
    if not name and not names:
        return every[:1]
    chosen = []
    for wanted in [name] if name else names:
        found = find_runs(folder / wanted)
        if not found:
            there = ", ".join(os.path.relpath(run.path, folder) for run in every)
            raise TalkgenError(f"there is no trained run {wanted!r} in {folder}; there are {there}")
        chosen.append(found[0])
    return chosen


def open_clips(cfg: DictConfig, runs: Mapping[str, RunFolder]) -> tuple[TalkingFaceData, HeldOutClips]:
    """The held-out clips of the first run's corpus, at the frame size that all runs were trained at.

    Raises:
        TalkgenError: the runs work at different sizes, or there are no clips to score.
    """
    from talkgen.metrics.held_out import HeldOutClips, choose_clips

    opened = {}
    for name, folder in runs.items():
        node = OmegaConf.load(folder.config).data
        if cfg.root:
            node.root = cfg.root
        opened[name] = build(node)
    data = next(iter(opened.values()))
    sizes = {name: other.window.size or other.store.size for name, other in opened.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size} px" for name, size in sizes.items())
        raise TalkgenError(f"runs that work at different frame sizes cannot share a table: {listed}")
    if cfg.frames is not None and cfg.frames < 1:
        raise TalkgenError(f"frames={cfg.frames}: at least one frame must be scored")
    chosen = choose_clips(data.store.clips, cfg.split, cfg.clips)
    return data, HeldOutClips(data.store, chosen, next(iter(sizes.values())), cfg.frames)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise TalkgenError(f"device={name} cannot be used here: {str(error).splitlines()[0]}") from error
    return name


def _protocol(
    data: TalkingFaceData, clips: HeldOutClips, codec: str, columns: Sequence[str], weights: Mapping[str, str]
) -> Any:
    from talkgen.metrics.protocol import Protocol

    splits = " and ".join(sorted({clip.split for clip in clips.clips}))
    corpora = ", ".join(sorted({clip.corpus for clip in clips.clips}))
    return Protocol(
        corpus=f"{corpora}, {splits} split (manifest {data.store.description['manifest_sha256'][:12]})",
        fps=[clip.fps for clip in clips.clips],
        frames=[clips.frame_count(number) for number in range(len(clips))],
        sizes_px=[clips.size] * len(clips),
        crop=f"as prepared, {clips.store.size} px",
        codec=codec,
        metrics=list(columns),
        weights=weights,
    )


# Models whose frames have a ground truth --------------------------------------------------------------------


class VQGANReconstruction:
    """A VQGAN that encodes and decodes each frame.

    Args:
        name: of the row.
        vqgan: the network.
        device: where it runs.
        batch_frames: frames that it sees at a time.
    """

    in_video = True

    def __init__(self, name: str, vqgan: VQGAN, device: str, batch_frames: int) -> None:
        self.name = name
        self.vqgan = vqgan.to(device)
        self.device = device
        self.batch_frames = batch_frames

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """Reconstructions and the codes of both halves."""
        import torch

        from talkgen.metrics.contenders import Generated
        from talkgen.metrics.footage import CodeIndices, as_uint8

        for start, stop in clips.spans(number):
            frames, codes = [], []
            for batch in clips.frames(number, start, stop).split(self.batch_frames):
                with torch.inference_mode():
                    output = self.vqgan(_to_model(batch, self.device))
                frames.append(as_uint8(output.reconstruction.cpu()))
                codes.append(output.codes.cpu())
            size = self.vqgan.quantize.codes
            upper, lower = torch.cat(codes).chunk(2, dim=1)
            halves = {"upper": CodeIndices(upper, size), "lower": CodeIndices(lower, size)}
            yield Generated(torch.cat(frames), halves)


def _to_model(frames: Any, device: str) -> Any:
    """uint8 (t, h, w, 3) → float32 (t, 3, h, w) in [-1, 1]."""
    return frames.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def score_reconstruction(cfg: DictConfig, runs: Mapping[str, RunFolder], out: Path) -> Table:
    """Ground truth, re-encoded ground truth and each run, by the metrics of the config.

    Also writes ``sheet.png`` and ``sample.mp4`` (the first clip: ground truth, then the runs, with sound).
    """
    from talkgen.metrics.contenders import GroundTruth, Reencoded
    from talkgen.metrics.landmark_source import LandmarkSource, open_landmark_source
    from talkgen.metrics.scoring import score
    from talkgen.metrics.table import Column, Row, Table

    data, clips = open_clips(cfg, runs)
    contenders: list[Contender] = [GroundTruth(), Reencoded(cfg.crf)]
    for name, folder in runs.items():
        vqgan = load_network(folder, "vqgan", cfg.checkpoint)
        contenders.append(VQGANReconstruction(name, vqgan, _device(cfg.device), cfg.batch_frames))
    metrics = [[build(node) for node in cfg.metrics.values()] for _ in contenders]
    columns = [Column(m.column, m.digits, m.higher_is_better) for m in metrics[0]]
    opened = open_landmark_source(cfg.landmarks)
    source = opened if isinstance(opened, LandmarkSource) else None
    lacking = opened if isinstance(opened, TalkgenError) else None
    score(contenders, metrics, clips, source, out)

    ids = [clip.id for clip in clips.clips]
    rows = [
        Row(contender.name, len(clips), {m.column: _cell(m, ids, lacking) for m in row})
        for contender, row in zip(contenders, metrics, strict=True)
    ]
    codec = f"none before scoring, but for the row H.264 crf {cfg.crf} (libx264, yuv420p)"
    title = f"Reconstruction of {len(clips)} held-out clips"
    protocol = _protocol(data, clips, codec, [c.name for c in columns], source.weights if source else {})
    return Table(title, columns, rows, protocol, _notes(metrics[0], lacking))


def _cell(metric: Any, ids: Sequence[str], lacking: Exception | None) -> Cell:
    """The metric's cell; ``n/a`` where it could not be measured for want of a file or package."""
    from talkgen.metrics.table import NOT_AVAILABLE, Cell, measured_cell

    if lacking is not None and "landmarks" in metric.needs:
        return Cell(None, absent=NOT_AVAILABLE)
    return measured_cell(metric, ids)


def _notes(metrics: Sequence[Any], lacking: Exception | None) -> list[str]:
    """One line on what to fetch for the columns that are ``n/a``."""
    if lacking is None:
        return []
    columns = ", ".join(metric.column for metric in metrics if "landmarks" in metric.needs)
    return [f"n/a in {columns}: {lacking}"]


# Sync experts -----------------------------------------------------------------------------------------------


def score_sync_experts(cfg: DictConfig, runs: Mapping[str, RunFolder]) -> Table:
    """How often each expert prefers the right moment of the sound to one that is 1, 2, … frames away."""
    from tqdm import tqdm

    from talkgen.inference.av_offset import load_av_offset
    from talkgen.metrics.sync_accuracy import SyncAccuracy
    from talkgen.metrics.table import Column, Row, Table, measured_cell
    from talkgen.models.experts.syncnet import FRAMES

    data, clips = open_clips(cfg, runs)
    ids = [clip.id for clip in clips.clips]
    rows, columns = [], []
    for name, folder in runs.items():
        expert = load_av_offset(checkpoint_file(folder, cfg.checkpoint))
        metrics = [SyncAccuracy([shift]) for shift in cfg.shifts]
        far = [shift for shift in cfg.shifts if shift >= 5]
        if len(far) > 1:
            metrics.append(SyncAccuracy(far))
        for number in tqdm(range(len(clips)), unit="clip", desc=f"scoring {name}"):
            clip, count = clips.clips[number], clips.frame_count(number)
            audio, face = expert.embed_windows(
                clips.store.frames(clip, 0, count),
                clips.mel(number, FRAMES),
                clips.store.array(clip, "landmarks", 0, count),
            )
            for metric in metrics:
                metric.update(number, audio, face)
        rows.append(Row(name, len(clips), {m.column: measured_cell(m, ids) for m in metrics}))
        columns = [Column(m.column, m.digits, m.higher_is_better) for m in metrics]
    title = f"Sync experts on {len(clips)} held-out clips: right moment against one that is shifted"
    protocol = _protocol(data, clips, "none", [c.name for c in columns], {})
    return Table(title, columns, rows, protocol, ["Two choices, both signs of the shift; chance is 50 %."])


# Results ----------------------------------------------------------------------------------------------------


def write_table(table: Table, out: Path) -> None:
    """``table.md``, ``.csv``, ``.json``, ``.tex`` and ``per_clip.csv``."""
    from talkgen.data.files import write_atomically

    texts = {
        "table.md": table.markdown(),
        "table.csv": table.csv(),
        "table.json": table.json(),
        "table.tex": table.latex(),
        "per_clip.csv": table.per_clip_csv(),
    }
    for name, text in texts.items():
        write_atomically(out / name, text.encode())
