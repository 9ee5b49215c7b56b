"""``python evaluate.py``: score runs on held-out clips against ground truth, and write tables.

Heavy libraries are imported where scoring begins, so that ``--help`` and refusals answer at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf, open_dict

from talkgen.compared_methods import METHODS, method_of, newest_methods, score_methods
from talkgen.comparison import common_size, compare, make_protocol, open_clips, open_device
from talkgen.configuration import RunFolder, config_folder, find_runs, hydra_command
from talkgen.errors import TalkgenError
from talkgen.inference.runs import checkpoint_file, load_network, run_config

if TYPE_CHECKING:
    from talkgen.metrics.contenders import Contender
    from talkgen.metrics.table import Table

METHOD = "method"
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
    if cfg.sync_expert is None:
        newest = newest_stage(cfg.paths.runs, "evaluation_sync_expert")
        cfg.sync_expert = None if newest is None else str(newest)
    if cfg.jobs is not None:
        from talkgen.video_evaluation import write_protocol_jobs

        return write_protocol_jobs(cfg)
    if cfg.videos is not None:
        from talkgen.video_evaluation import score_videos

        _choose_metrics(cfg, "papers")
        out = Path(cfg.out) if cfg.out else Path("evaluation")
        return _finish(score_videos(cfg, out), out)
    runs = choose_runs(Path(cfg.paths.runs), cfg.run, list(cfg.runs))
    kinds = {kind_of(folder) for folder in runs}
    if len(kinds) > 1:
        raise TalkgenError(f"runs of different kinds do not fit into one table: {', '.join(sorted(kinds))}")
    (kind,) = kinds
    names = [os.path.relpath(folder.path, cfg.paths.runs) for folder in runs]
    out = Path(cfg.out) if cfg.out else _folder(cfg, runs, names)
    named = dict(zip(names, runs, strict=True))
    if cfg.suite is not None:
        table = _suite(cfg, kind, {name: folder.path for name, folder in named.items()}, out)
    elif kind == METHOD:
        _choose_metrics(cfg, _preset(runs))
        out.mkdir(parents=True, exist_ok=True)
        table = score_methods(cfg, {name: folder.path for name, folder in named.items()}, out)
    elif kind == RECONSTRUCTION:
        _choose_metrics(cfg, "reconstruction")
        out.mkdir(parents=True, exist_ok=True)
        table = score_reconstruction(cfg, named, out)
    elif kind == SYNC_EXPERT:
        out.mkdir(parents=True, exist_ok=True)
        table = score_sync_experts(cfg, named)
    else:
        raise TalkgenError(f"{runs[0].path}: there is no evaluation for {kind} alone")
    return _finish(table, out)


def _folder(cfg: DictConfig, runs: list[RunFolder], names: list[str]) -> Path:
    """Where results go: into a run; of several, which have no one place, beside them under their names."""
    what = cfg.suite or "evaluation"
    if len(runs) == 1:
        return runs[0].path / what
    together = "+".join(name.replace(os.sep, "_").lstrip("._") for name in names)
    return Path(cfg.paths.runs) / what / together[:200]


def _finish(table: Table, out: Path) -> int:
    write_table(table, out)
    files = ", ".join(sorted(file.name for file in out.iterdir()))
    print(f"\n{table.markdown(upright=True)}\nwritten to {out}: {files}")
    return 0


def _suite(cfg: DictConfig, kind: str, folders: Mapping[str, Path], out: Path) -> Table:
    if cfg.suite != "robustness":
        raise TalkgenError(f"suite={cfg.suite}: there is robustness")
    if kind != METHOD:
        raise TalkgenError("suite=robustness is for methods; name the folder of one with run=NAME")
    from talkgen.robustness import score_robustness

    _choose_metrics(cfg, "robustness")
    out.mkdir(parents=True, exist_ok=True)
    return score_robustness(cfg, folders, out)


def kind_of(folder: RunFolder) -> str:
    """``METHOD`` for the folder of a method's stages, else the class of the run's system."""
    return METHOD if method_of(folder.path) else str(run_config(folder).system._target_)


def _preset(folders: Sequence[RunFolder]) -> str:
    """Columns of one method, or those that all methods share."""
    presets = {METHODS[str(method_of(folder.path))].metrics for folder in folders}
    return presets.pop() if len(presets) == 1 else "methods"


def _choose_metrics(cfg: DictConfig, default: str) -> None:
    """Fill in the columns that fit to what is scored, where the command names none."""
    if cfg.get("metrics") is None:
        with open_dict(cfg):
            cfg.metrics = OmegaConf.load(config_folder() / "metrics" / f"{default}.yaml")


def newest_stage(runs: str | Path, experiment: str) -> Path | None:
    """The newest run of an experiment below ``runs``."""
    return next((run.path for run in find_runs(runs) if run.path.name == experiment), None)


def choose_runs(folder: Path, name: str | None, names: Sequence[str]) -> list[RunFolder]:
    """The runs to score: those of ``names``, or ``name``, or the newest of every method.

    A name may be a method's folder: then the method as a whole is meant, once one of its modules is trained,
    and its newest stage before. Where no method is trained, the newest run is scored.

    Raises:
        TalkgenError: one does not exist; the message lists those that do.
    """
    if name and names:
        raise TalkgenError("give run=NAME or runs=[NAME,NAME], not both")
    if not name and not names:
        every = find_runs(folder)
        if not every:
            raise TalkgenError(
                f"there is no trained run in {folder}; train one with: python train.py experiment=swaptalk"
            )
        methods = [RunFolder(method) for method in newest_methods(folder)]
        return methods or every[:1]
    return [_find(folder, wanted) for wanted in ([name] if name else names)]


def _find(folder: Path, wanted: str) -> RunFolder:
    if method_of(folder / wanted):
        return RunFolder(folder / wanted)
    found = find_runs(folder / wanted)
    if found:
        return found[0]
    every = find_runs(folder)
    if not every:
        raise TalkgenError(
            f"there is no trained run in {folder}; train one with: python train.py experiment=swaptalk"
        )
    there = ", ".join(os.path.relpath(run.path, folder) for run in every)
    raise TalkgenError(f"there is no trained run {wanted!r} in {folder}; there are {there}")


# Models whose frames have a ground truth --------------------------------------------------------------------


def score_reconstruction(cfg: DictConfig, runs: Mapping[str, RunFolder], out: Path) -> Table:
    """Ground truth, re-encoded ground truth and each run, by the metrics of the config.

    Also writes ``sheet.png`` and ``sample.mp4`` (the first clip: ground truth, then the runs, with sound).
    """
    from talkgen.inference.contenders import VQGANReconstruction
    from talkgen.metrics.contenders import GroundTruth, Reencoded

    scored = open_clips(cfg, next(iter(runs.values())), common_size(cfg, runs))
    contenders: list[Contender] = [GroundTruth(), Reencoded(cfg.crf)]
    for name, folder in runs.items():
        vqgan = load_network(folder, "vqgan", cfg.checkpoint)
        contenders.append(VQGANReconstruction(name, vqgan, open_device(cfg.device), cfg.batch_frames))
    title = f"Reconstruction of {len(scored.clips)} held-out clips"
    return compare(cfg, title, contenders, scored, out)


# Sync experts -----------------------------------------------------------------------------------------------


def score_sync_experts(cfg: DictConfig, runs: Mapping[str, RunFolder]) -> Table:
    """How often each expert prefers the right moment of the sound to one that is 1, 2, … frames away."""
    from tqdm import tqdm

    from talkgen.inference.av_offset import load_av_offset
    from talkgen.metrics.sync_accuracy import SyncAccuracy
    from talkgen.metrics.table import Column, Row, Table, measured_cell
    from talkgen.models.experts.syncnet import FRAMES

    scored = open_clips(cfg, next(iter(runs.values())), common_size(cfg, runs))
    clips = scored.clips
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
    protocol = make_protocol(scored, "none", [c.name for c in columns], {})
    return Table(title, columns, rows, protocol, ["Two choices, both signs of the shift; chance is 50 %."])


# Results ----------------------------------------------------------------------------------------------------


def write_table(table: Table, out: Path) -> None:
    """``table.md``, ``.csv``, ``.json``, ``.tex``, ``.html``, ``per_clip.csv`` and ``significance.csv``."""
    from talkgen.data.files import write_atomically
    from talkgen.metrics.report import html_page

    texts = {
        "table.md": table.markdown(),
        "table.csv": table.csv(),
        "table.json": table.json(),
        "table.tex": table.latex(),
        "table.html": html_page(table, out),
        "per_clip.csv": table.per_clip_csv(),
    }
    for name, text in texts.items():
        write_atomically(out / name, text.encode())
    if table.comparisons:
        write_atomically(out / "significance.csv", table.significance_csv().encode())
