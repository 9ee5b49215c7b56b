"""Damaged files shown to the readers of talkgen, in a process that may die of them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import random
import resource
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mutations import damaged
from square_faces import SquareDetector, SquareLandmarker, film, speech

from talkgen.errors import TalkgenError

MEMORY_BYTES = 2 * 2**30  # that a reader may take beyond what the process has
Reader = Callable[[Path], object]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A sort of file.

    Attributes:
        name: of it.
        share: of the cases, relative to the others.
        read: what talkgen does with it.
        make: writes a sound one.
        suffix: of the file.
        text: values in it may be damaged, rather than bytes.
    """

    name: str
    share: int
    read: Reader
    make: Callable[[Path], object]
    suffix: str
    text: bool = False


# What talkgen does with each kind ---------------------------------------------------------------------------


def _preparer(source: Path) -> Any:
    from talkgen.data import clip_preparation
    from talkgen.data.filters import FilterSettings

    clip_preparation.make_detector = lambda name: SquareDetector()  # type: ignore[assignment]
    clip_preparation.make_landmarker = lambda name: SquareLandmarker()  # type: ignore[assignment]
    limits = FilterSettings(min_seconds=0.2, min_face_pixels=8, min_sharpness=0, min_speech_ratio=0)
    settings = clip_preparation.PrepareSettings(size=32, speech="energy", filters=limits)
    return clip_preparation.ClipPreparer(source, settings)


def prepare_clips(source: Path, clips: list[Any]) -> None:
    """As a worker of `talkgen prepare`; a clip that is left out with a reason counts as refused."""
    from talkgen.data.clip_preparation import Reject

    preparer = _preparer(source)
    made = [one for clip in clips for one in preparer.prepare(clip)]
    rejected = [one for one in made if isinstance(one, Reject)]
    if rejected and len(rejected) == len(made):
        raise TalkgenError(rejected[0].reason)


def read_film(file: Path) -> None:
    """Prepared as a clip, which probes it, decodes its pictures at 25 a second, and reads its sound."""
    from talkgen.data.clip import RawClip

    prepare_clips(file.parent, [RawClip("clip", "folder", "train", file.name, "somebody")])


def read_sound(file: Path) -> None:
    """All of it, and a piece."""
    from talkgen.audio.waveform import load_waveform

    assert np.isfinite(load_waveform(file)).all()
    load_waveform(file, start_seconds=0.1, seconds=0.2)


def read_still(file: Path) -> None:
    """As a source or target."""
    from talkgen.inference.target_video import read_picture

    assert read_picture(file).dtype == np.uint8


def read_listing(file: Path) -> None:
    """A corpus' list of clips, and then those of its clips that can be."""
    from talkgen.data.clip import RawClip
    from talkgen.data.manifest import read_manifest

    shutil.copyfile(seeds_folder() / "film.mp4", file.with_name("film.mp4"))
    shutil.copyfile(seeds_folder() / "truth.npz", file.with_name("truth.npz"))
    prepare_clips(file.parent, read_manifest(file, RawClip))


def read_truth(file: Path) -> None:
    """Landmarks beside a film."""
    from talkgen.data.clip import RawClip

    shutil.copyfile(seeds_folder() / "film.mp4", file.with_name("film.mp4"))
    clip = RawClip("clip", "demo", "train", "film.mp4", "somebody", truth=file.name)
    prepare_clips(file.parent, [clip])


def read_model(file: Path) -> None:
    """A morphable model."""
    from talkgen.face3d.model_files import open_morphable_model

    open_morphable_model(str(file))


def read_run(file: Path) -> None:
    """A run's config, and the network that it describes."""
    from talkgen.configuration import RunFolder
    from talkgen.inference.runs import load_network

    folder = file.parent / "run"
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / "config.yaml")
    shutil.copyfile(seeds_folder() / "weights.ckpt", folder / "checkpoints" / "last.ckpt")
    load_network(RunFolder(folder), "vqgan")


def read_weights(file: Path) -> None:
    """A checkpoint."""
    from talkgen.checkpoints import load_checkpoint

    load_checkpoint(file)


def read_jobs(file: Path) -> None:
    """The table of a batch."""
    from talkgen.inference.batch import read_batch

    read_batch(file, None, "en", None)


def read_store(file: Path) -> None:
    """A store whose description is damaged: everything in it."""
    from talkgen.data.store import Store

    folder = file.parent / "store"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(seeds_folder() / "store", folder)
    shutil.copyfile(file, folder / "store.json")
    _read_all(Store.open(folder))


def read_shard(file: Path) -> None:
    """A store with a damaged shard."""
    from talkgen.data.store import Store

    folder = file.parent / "store"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(seeds_folder() / "store", folder)
    shutil.copyfile(file, folder / "shards" / "00000.tar")
    _read_all(Store.open(folder))


def _read_all(store: Any) -> None:
    for clip in list(store.clips)[:2]:
        store.frames(clip)
        for name in store.streams:
            if not name.startswith("frames"):
                store.array(clip, name)


# Sound files ------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def seeds_folder() -> Path:
    """Where the sound files of this process lie."""
    return Path(os.environ["TALKGEN_FAULT_SEEDS"])


def _film(file: Path) -> None:
    film(file, 14, sound=speech(0.56))


def _other_film(codec: str) -> Callable[[Path], object]:
    from bad_media import video

    return lambda file: video(file, frames=14, codec=codec, seconds_of_sound=0.56)


def _sound(file: Path) -> None:
    import soundfile

    soundfile.write(file, speech(0.4), 16000)


def _picture(file: Path) -> None:
    from bad_media import picture, still

    still(file, picture((90, 70)))


def _listing(file: Path) -> None:
    from talkgen.data.clip import RawClip
    from talkgen.data.manifest import write_manifest

    write_manifest(
        file,
        [
            RawClip(
                "anna/1", "folder", "train", "film.mp4", "anna", language="en", end_seconds=0.5, notes="one"
            ),
            RawClip(
                "ben/2", "demo", "test", "film.mp4", "ben", truth="truth.npz", start_seconds=0.1, notes="two"
            ),
        ],
    )


def _truth(file: Path) -> None:
    points = np.tile(np.linspace([40, 40], [110, 110], 68, dtype=np.float32), (14, 1, 1))
    points[:, 36:42], points[:, 42:48] = (55, 60), (95, 60)
    points[:, [48, 54]] = [[60, 95], [90, 95]]
    np.savez(file, landmarks=points, truth_opening=np.arange(14, dtype=np.float32))


def _model(file: Path) -> None:
    from talkgen.face3d.head import build_head

    head = build_head()
    np.savez_compressed(
        file,
        **{
            item.name: getattr(head, item.name)
            for item in dataclasses.fields(head)
            if isinstance(getattr(head, item.name), np.ndarray)
        },
    )


def _config(file: Path) -> None:
    shutil.copyfile(_method(file.parent) / "config.yaml", file)


def _weights(file: Path) -> None:
    shutil.copyfile(_method(file.parent) / "checkpoints" / "last.ckpt", file)


def _safetensors(file: Path) -> None:
    import torch

    from talkgen.checkpoints import export_weights

    export_weights(torch.nn.Linear(7, 5), file)


def _method(folder: Path) -> Path:
    from tiny import write_tiny_store, write_tiny_swaptalk

    if not (folder / "method").is_dir():
        if not (folder / "store").is_dir():
            write_tiny_store(folder / "store")
        write_tiny_swaptalk(folder / "method", folder / "store")
    return folder / "method" / "swaptalk_vqgan"


def _jobs(file: Path) -> None:
    file.write_text(
        'face,audio,text,out\nfilm.mp4,"a, b.wav",,made/1.mp4\nfilm.mp4,,"Hello, you",made/2.mp4\n'
    )


def _store(file: Path) -> None:
    from tiny import write_tiny_store

    if not (file.parent / "store").is_dir():
        write_tiny_store(file.parent / "store")
    shutil.copyfile(file.parent / "store" / "store.json", file)


def _shard(file: Path) -> None:
    shutil.copyfile(file.parent / "store" / "shards" / "00000.tar", file)


KINDS = (
    Kind("film.mp4", 22, read_film, _film, ".mp4"),
    Kind("film.mkv", 5, read_film, _film, ".mkv"),
    Kind("film.mov", 3, read_film, _film, ".mov"),
    Kind("film.vp9.mkv", 3, read_film, _other_film("libvpx-vp9"), ".mkv"),
    Kind("film.avi", 4, read_film, _other_film("mpeg4"), ".avi"),
    Kind("store.json", 3, read_store, _store, ".json", text=True),
    Kind("shard", 3, read_shard, _shard, ".tar"),
    Kind("sound.wav", 12, read_sound, _sound, ".wav"),
    Kind("sound.flac", 4, read_sound, _sound, ".flac"),
    Kind("sound.ogg", 3, read_sound, _sound, ".ogg"),
    Kind("sound.mp3", 3, read_sound, _sound, ".mp3"),
    Kind("still.jpg", 8, read_still, _picture, ".jpg"),
    Kind("still.png", 4, read_still, _picture, ".png"),
    Kind("still.webp", 2, read_still, _picture, ".webp"),
    Kind("still.tiff", 2, read_still, _picture, ".tiff"),
    Kind("truth.npz", 6, read_truth, _truth, ".npz"),
    Kind("clips.jsonl", 6, read_listing, _listing, ".jsonl", text=True),
    Kind("config.yaml", 4, read_run, _config, ".yaml", text=True),
    Kind("weights.ckpt", 3, read_weights, _weights, ".ckpt"),
    Kind("weights.safetensors", 2, read_weights, _safetensors, ".safetensors"),
    Kind("jobs.csv", 2, read_jobs, _jobs, ".csv", text=True),
)


def seed_file(kind: Kind) -> Path:
    """The sound file of a kind."""
    name = kind.name if "." in kind.name else f"{kind.name}{kind.suffix}"
    return seeds_folder() / name


def write_seeds() -> None:
    """A sound file of every kind, which its reader takes."""
    seeds_folder().mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        kind.make(seed_file(kind))


def cases(total: int) -> Iterator[tuple[int, Kind]]:
    """Which kind each case is of: the kinds lie mixed, so that the beginning is a sample of all."""
    shares = [kind.share for kind in KINDS]
    chance = random.Random(0)
    yield from enumerate(chance.choices(KINDS, shares, k=total))


# The process that reads -------------------------------------------------------------------------------------


class Outside(Exception):
    """A file would have been written where nothing may be."""


def _watch_writes(allowed: Path) -> Callable[[], list[str]]:
    """Note every file that Python opens for writing, makes, renames or removes outside a folder."""
    noted: list[str] = []
    roots = (str(allowed.resolve()), "/dev/null", "/proc/self")
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes) and arguments[2] & writing:
            touched = [arguments[0]]
        elif event in ("os.rename", "os.link", "os.symlink", "shutil.move"):
            touched = list(arguments[:2])
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown"):
            touched = [arguments[0]]
        elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"):
            noted.append(f"{event} {arguments[0]}")
            return
        else:
            return
        for place in touched:
            path = os.path.realpath(os.fsdecode(place)) if isinstance(place, str | bytes) else str(place)
            if not path.startswith(roots):
                noted.append(f"{event} {path}")

    sys.addaudithook(hook)

    def taken() -> list[str]:
        found, noted[:] = list(noted), []
        return found

    return taken


def read_damaged(seeds: str, report: str, total: int, numbers: list[int]) -> int:
    """Read damaged files, one after the other, and say in ``report`` what came of each.

    There is a line before and one after it, so that whoever watches knows which file a process died of.
    """
    os.environ["TALKGEN_FAULT_SEEDS"] = seeds
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(1000)
    home = Path.cwd()
    _warm(home)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, mapped + MEMORY_BYTES))
    outside = _watch_writes(home)
    outside()
    wanted = set(numbers)
    with open(report, "a", encoding="utf-8") as said:  # noqa: PTH123 (kept open)
        outside()
        for number, kind in cases(total):
            if number not in wanted:
                continue
            said.write(json.dumps({"begin": number, "kind": kind.name}) + "\n")
            said.flush()
            file = home / f"damaged{kind.suffix}"
            write_case(file, kind, number)
            begun = time.process_time()
            outcome, why = _outcome(kind.read, file)
            taken = outside()
            if taken:
                outcome, why = "outside", "; ".join(taken[:3])
            seconds = time.process_time() - begun
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            line = {"end": number, "outcome": outcome, "why": why[:300], "seconds": seconds, "peak": peak}
            said.write(json.dumps(line) + "\n")
            said.flush()
    return 0


def write_case(file: Path, kind: Kind, number: int) -> None:
    """The damaged file of a number."""
    file.write_bytes(damaged(seed_file(kind).read_bytes(), random.Random(number), kind.text))


def _outcome(read: Reader, file: Path) -> tuple[str, str]:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            read(file)
    except TalkgenError as error:
        return "refused", str(error)
    except MemoryError as error:
        return "memory", f"{error!r} at {_place(error)}"
    except BaseException as error:
        return "error", f"{type(error).__name__}: {error} at {_place(error)}"
    return "read", ""


def _place(error: BaseException) -> str:
    trace, found = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "talkgen" in file or not found:
            found = f"{file.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _warm(home: Path) -> None:
    """Read a sound file of every kind, so that what libraries load or write at first use is not counted."""
    for kind in KINDS:
        file = home / f"damaged{kind.suffix}"
        shutil.copyfile(seed_file(kind), file)
        kind.read(file)
