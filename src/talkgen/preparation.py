"""`talkgen prepare`: a corpus becomes a store; and `talkgen prepare --check`: is a store sound?"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from talkgen.configuration import build, check_keys, hydra_command, options
from talkgen.errors import TalkgenError

if TYPE_CHECKING:
    from talkgen.data.clip_preparation import Networks, PrepareSettings


def main(arguments: Sequence[str]) -> int:
    """`talkgen prepare`.

    Args:
        arguments: Hydra overrides (`corpus=folder source=… out=…`), or `--check ROOT`.

    Returns:
        Exit code: 0, or 1 where a checked store has faults.
    """
    arguments = list(arguments)
    if "--check" in arguments:
        place = arguments.index("--check")
        if len(arguments) != 2 or place != 0:
            raise TalkgenError(
                "usage: talkgen prepare --check ROOT, where ROOT is the folder or URL of a store"
            )
        return check(arguments[1])  # not through Hydra, which would not take every path
    return hydra_command("prepare", run, arguments)


def run(cfg: DictConfig) -> int:
    """Prepare what the composed config describes, or check the store that it names."""
    if cfg.check is not None:
        return check(str(cfg.check))
    check_keys(cfg, "prepare")
    if cfg.get("corpus") is None:
        names = "|".join(options("corpus"))
        raise TalkgenError(f"say which corpus: talkgen prepare corpus={names} source=FOLDER out=FOLDER")
    return prepare_corpus(cfg)


def prepare_corpus(cfg: DictConfig) -> int:
    """Find the clips of a corpus, prepare them, and say what came of it."""
    from talkgen.data.executors import make_executor
    from talkgen.data.prepare import prepare

    folder = cfg.source or cfg.corpus.get("source")
    if folder is None:
        raise TalkgenError(
            f"say where the corpus lies: source=FOLDER (its layout: data/README.md, {cfg.corpus.name})"
        )
    if not isinstance(cfg.shard_megabytes, int | float) or cfg.shard_megabytes <= 0:
        raise TalkgenError(f"shard_megabytes={cfg.shard_megabytes}: give a number above 0")
    executor = make_executor(cfg.executor, cfg.workers, cfg.ray_address)
    settings = build(cfg.settings)
    networks = open_networks(settings)
    source = Path(folder).absolute()
    if cfg.corpus.get("generate") is not None:
        build(cfg.corpus.generate)(source)
    find_clips = build(cfg.corpus.find_clips)
    try:
        raw_clips = find_clips(source)
    except ValueError as error:
        raise TalkgenError(f"corpus.find_clips cannot be used: {error}") from error
    outcome = prepare(
        raw_clips,
        source,
        Path(cfg.out),
        settings,
        executor,
        int(cfg.shard_megabytes * 2**20),
        redo=cfg.redo,
        disk_check=cfg.disk_check,
        progress=cfg.progress,
        networks=networks,
    )
    store = outcome.store
    if outcome.done_before == len(raw_clips):
        print(f"{cfg.out} is already prepared from these {len(raw_clips)} clips with these settings")
    hours = int(store.clips.frames.sum()) / store.fps / 3600
    kept = len({clip.raw for clip in store.clips})
    print(
        f"kept {kept} of {len(raw_clips)} clips as {len(store)} stretches of {hours:.2f} h "
        f"in {outcome.seconds:.0f} s: {cfg.out}"
    )
    if outcome.rejects:
        reasons = Counter(reject.stage for reject in outcome.rejects)
        print("left out: " + ", ".join(f"{stage} {count}" for stage, count in reasons.most_common()))
        print(f"why: {Path(cfg.out) / 'rejects.csv'}")
    print(f"look at it: {Path(cfg.out) / 'contact_sheet.jpg'}")
    return 0


def open_networks(settings: PrepareSettings) -> Networks:
    """The networks that the settings name by a run, and the morphable model.

    Raises:
        TalkgenError: one cannot be used; said before any work is done.
    """
    from talkgen.data.clip_preparation import Networks

    expert = codes = coefficients = None
    place = settings.av_expert
    if place is not None and (":" not in place or Path(place).exists()):  # else it is module:function
        from talkgen.inference.av_offset import load_av_offset

        if settings.fps != 25:
            raise TalkgenError(
                f"av_expert={place} sees five frames of 25 a second; fps={settings.fps:g} will not do"
            )
        expert = load_av_offset(place)
    if settings.codes is not None:
        from talkgen.inference.vqgan import load_frame_codes

        codes = load_frame_codes(settings.codes, device="cpu")  # several workers would not share a GPU
        codes.load()
    if "coefficients" in settings.features:
        from talkgen.face3d.fitting import load_clip_fitter

        coefficients = load_clip_fitter(settings.morphable_model)
    return Networks(expert, codes, coefficients)


def check(root: str) -> int:
    """Read every byte of a store, print what is wrong with it and how fast it reads, and write a contact
    sheet where there is none.
    """
    from talkgen.data.store import Store
    from talkgen.data.store_report import check_store, write_contact_sheet

    store = Store.open(root)
    result = check_store(store, progress=sys.stderr.isatty())
    print("\n".join(result.summary))
    for name, fault in result.faults:
        print(f"FAULT {name}: {fault}")
    if result.faults:
        print(f"{len(result.faults)} of {result.checked} shards and clips are damaged")
        return 1
    print(f"all {result.checked} shards and clips are sound")
    sheet = Path(root if "://" not in root else ".") / "contact_sheet.jpg"
    if not sheet.is_file():
        write_contact_sheet(store, sheet)
    print(f"look at it: {sheet}")
    return 0
