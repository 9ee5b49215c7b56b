"""Prepare a corpus: raw clips in, a store out; in parallel, and whatever happens, the same command
completes it.

Every raw clip is one item. A worker writes what it made of an item to two files in `work/items`: the
encoded clips, then, as the sign that the item is done, a description. The main process appends finished
items to shards in the order of the corpus and deletes them. So a run can be killed at any moment: the next
one does the items that have no description, and the shards come out the same, byte for byte. The folder
`work` goes when `store.json` has come.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import fcntl
import hashlib
import io
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from talkgen.configuration import differences
from talkgen.data.clip import Clip, RawClip, from_json, to_json
from talkgen.data.clip_preparation import ClipPreparer, Networks, PrepareSettings, Reject
from talkgen.data.executors import Executor, ProcessExecutor, WorkerDied
from talkgen.data.files import temporary_name, write_atomically
from talkgen.data.store import SHARD_BYTES, Fragment, Store, StoreWriter, Stream
from talkgen.data.voice import resolve_detector
from talkgen.errors import FileError, TalkgenError
from talkgen.video.reader import probe

_PROBED = 48  # raw clips that are looked at to estimate the size of the store
# A JPEG at quality 95 without chroma subsampling has 0.64 bytes a pixel at 128 px, 0.41 at 320 px.
_BYTES_PER_PIXEL = {"jpeg": 0.65, "i420": 1.5}
_OTHER_BYTES_PER_SECOND = 90_000  # mel, waveform, landmarks, matrices
# codes: of 512 px, 16 pixels a code
_FEATURE_BYTES_PER_SECOND = {
    "whisper": 50 * 384 * 4,
    "hubert": 50 * 768 * 4,
    "codes": 25 * 32**2 * 2,
    "coefficients": 25 * 257 * 4,
}


@dataclass(frozen=True)
class Job:
    """What a worker is handed.

    Attributes:
        number: of the raw clip in the corpus.
        raw: the raw clip.
        crop_like: the clip that it is cropped like, for a swapped one.
        source, work: folders.
        settings: how.
        networks: those that the settings name.
    """

    number: int
    raw: RawClip
    crop_like: RawClip | None
    source: str
    work: str
    settings: PrepareSettings
    networks: Networks


@dataclass(frozen=True)
class Outcome:
    """What a preparation came to.

    Attributes:
        store: the finished store.
        rejects: all that was left out.
        seconds: how long this run took.
        done_before: items that an earlier run had done.
    """

    store: Store
    rejects: list[Reject]
    seconds: float
    done_before: int


def prepare(
    raw_clips: Sequence[RawClip],
    source: str | Path,
    out: str | Path,
    settings: PrepareSettings | None = None,
    executor: Executor | None = None,
    shard_bytes: int = SHARD_BYTES,
    redo: bool = False,
    disk_check: bool = True,
    progress: bool = True,
    networks: Networks | None = None,
) -> Outcome:
    """Prepare a corpus. Running it again completes what was begun, or, where all is done, does nothing.

    Args:
        raw_clips: what an adapter of `talkgen.data.corpora` found.
        source: folder of the corpus.
        out: folder of the store.
        settings: how.
        executor: where the work runs; None: one process for every core.
        shard_bytes: length at which a shard is closed.
        redo: throw away what is in `out` and begin anew.
        disk_check: refuse to begin where the disk is too small.
        progress: show a bar.
        networks: of the layers above, where the settings name one.

    Raises:
        TalkgenError: there are no raw clips; or `out` was prepared from other clips or with other
        settings; or the
            disk is too small; or no clip was kept; or a network's file is missing; or the run was
            interrupted.
    """
    settings, networks = settings or PrepareSettings(), networks or Networks()
    settings = dataclasses.replace(settings, speech=resolve_detector(settings.speech))
    out = Path(out)
    if not raw_clips:
        raise TalkgenError(f"{source}: the corpus has no clips")
    _refuse_repeated_ids(raw_clips)
    began = time.monotonic()
    plan = _describe(raw_clips, settings, networks, shard_bytes)
    out.mkdir(parents=True, exist_ok=True)
    work = out / "work"
    with _only_one(out):
        for unfinished in (
            *out.glob(".*.partial"),
            *out.glob("shards/.*.partial"),
        ):  # of a run that was killed
            unfinished.unlink()
        if redo:
            _remove_store(out)
        if (out / "store.json").is_file():
            store = Store.open(out)
            _refuse_changes(out, dict(store.description["settings"]), plan)
            _draw_contact_sheet(store, out)
            shutil.rmtree(work, ignore_errors=True)
            return Outcome(store, read_rejects(out / "rejects.csv"), time.monotonic() - began, len(raw_clips))
        if (work / "plan.json").is_file() and any(work.glob("items/*/*.json")):
            _refuse_changes(out, json.loads((work / "plan.json").read_text()), plan)
        elif disk_check:
            _check_disk(raw_clips, Path(source), out, settings)
        (work / "items").mkdir(parents=True, exist_ok=True)
        write_atomically(work / "plan.json", json.dumps(plan).encode())
        packer = _Packer(out, raw_clips, plan, shard_bytes)
        packer.advance()
        waiting = [number for number in range(packer.next, len(raw_clips)) if not _described(work, number)]
        done_before = len(raw_clips) - len(waiting)
        # one look over all ids, not one for every clip
        by_id = {raw.id: raw for raw in raw_clips}
        jobs = (
            Job(
                n, raw_clips[n], by_id.get(raw_clips[n].swap_of or ""), str(source), str(work), settings,
                networks,
            )
            for n in waiting
        )  # fmt: skip
        bar = tqdm(
            total=len(raw_clips), initial=done_before, unit="clip", disable=not progress, smoothing=0.05,
            desc=f"prepare {raw_clips[0].corpus}",
        )  # fmt: skip
        try:
            with bar:
                for job, result in (executor or ProcessExecutor()).map(prepare_item, jobs):
                    if isinstance(result, WorkerDied):
                        _write_item(job, [Reject(job.raw.id, job.raw.video, "worker", str(result))])
                    packer.advance()
                    bar.update()
                    bar.set_postfix(kept=packer.kept, left_out=len(packer.rejects), refresh=False)
        except KeyboardInterrupt:
            done = sum(_described(work, number) for number in waiting) + done_before
            raise TalkgenError(
                f"interrupted; {done} of {len(raw_clips)} clips are done. The same command goes on from there"
            ) from None
        return Outcome(packer.finish(), packer.rejects, time.monotonic() - began, done_before)


def prepare_item(job: Job) -> int:
    """What a worker does with one item; gives its number."""
    preparer = _preparer(job.source, job.settings, job.networks)
    _write_item(job, preparer.prepare(job.raw, job.crop_like))
    return job.number


@lru_cache(maxsize=1)
def _preparer(source: str, settings: PrepareSettings, networks: Networks) -> ClipPreparer:
    """Networks are loaded once a process."""
    return ClipPreparer(source, settings, networks)


# Items ------------------------------------------------------------------------------------------------------


def _item(work: Path, number: int, suffix: str) -> Path:
    return work / "items" / f"{number // 1000:04d}" / f"{number:07d}.{suffix}"


def _described(work: Path, number: int) -> bool:
    return _item(work, number, "json").is_file()


def _write_item(job: Job, made: Iterable[Fragment | Reject]) -> None:
    """Write clips as they come, so that no more than one is in memory, and at the end the description."""
    work = Path(job.work)
    content, description = _item(work, job.number, "tar"), _item(work, job.number, "json")
    content.parent.mkdir(exist_ok=True)
    clips: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    temporary = temporary_name(content)
    with temporary.open("wb") as handle:
        for one in made:
            if isinstance(one, Reject):
                rejects.append(dataclasses.asdict(one))
                continue
            handle.write(one.content)
            clips.append(
                {
                    "clip": to_json(one.clip),
                    "bytes": len(one.content),
                    "streams": {name: dataclasses.asdict(stream) for name, stream in one.streams.items()},
                    "entries": one.entries,
                }
            )
    if clips:
        temporary.replace(content)
    else:
        temporary.unlink()
    record = {"clips": clips, "rejects": rejects}
    write_atomically(description, json.dumps(record, ensure_ascii=False).encode())


class _Packer:
    """Appends finished items to the store in the order of the corpus."""

    def __init__(
        self, out: Path, raw_clips: Sequence[RawClip], plan: dict[str, Any], shard_bytes: int
    ) -> None:
        self.next = 0  # number of the first item that is not appended
        self.kept = 0
        self.rejects: list[Reject] = []
        self._out = out
        self._total = len(raw_clips)
        self._writer = StoreWriter(out, shard_bytes, settings=plan)
        self._open: list[int] = []  # items whose content is in no closed shard yet

    def advance(self) -> None:
        """Append all items up to the first that is not finished."""
        while self.next < self._total and _described(self._out / "work", self.next):
            self._append(self.next)
            self.next += 1

    def _append(self, number: int) -> None:
        record = json.loads(_item(self._out / "work", number, "json").read_bytes())
        self.rejects += [Reject(**reject) for reject in record["rejects"]]
        file = _item(self._out / "work", number, "tar")
        start = 0
        for made in record["clips"]:
            clip = from_json(made["clip"], Clip)
            streams = {
                name: Stream(values["dtype"], tuple(values["row"]), values["time_last"])
                for name, values in made["streams"].items()
            }
            fragment = Fragment(clip, b"", streams, {name: tuple(e) for name, e in made["entries"].items()})
            size = made["bytes"]
            if number not in self._open:
                self._open.append(number)
            closed = self._writer.add_fragment(fragment, size, partial(_read_part, file, start, size))
            start += size
            self.kept += 1
            if closed:
                # of an item with more clips to come, the file is still needed
                done = self._open if made is record["clips"][-1] else self._open[:-1]
                for appended in done:
                    _item(self._out / "work", appended, "tar").unlink(missing_ok=True)
                self._open = [] if made is record["clips"][-1] else [number]

    def finish(self) -> Store:
        """Write everything that is left; `store.json` last but for the contact sheet, then remove `work`."""
        for orphan in self._writer.leave_out_orphans():
            reason = f"its target {orphan.swap_of} was left out"
            self.rejects.append(Reject(orphan.id, orphan.video, "target", reason))
            self.kept -= 1
        _write_rejects(self._out / "rejects.csv", self.rejects)
        if not self.kept:
            reasons = ", ".join(
                f"{stage} {n}" for stage, n in Counter(r.stage for r in self.rejects).most_common()
            )
            raise TalkgenError(
                f"{self._out}: all {self._total} clips were left out ({reasons}); see rejects.csv"
            )
        self._writer.close()
        store = Store.open(self._out)
        _draw_contact_sheet(store, self._out)
        shutil.rmtree(self._out / "work")
        return store


def _draw_contact_sheet(store: Store, out: Path) -> None:
    from talkgen.data.store_report import write_contact_sheet  # imports torch, which workers do not need

    if not (out / "contact_sheet.jpg").is_file():
        write_contact_sheet(store, out / "contact_sheet.jpg")


def _read_part(file: Path, start: int, size: int) -> bytes:
    with file.open("rb") as handle:
        handle.seek(start)
        return handle.read(size)


# Rejects ----------------------------------------------------------------------------------------------------


def _write_rejects(file: Path, rejects: Sequence[Reject]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([item.name for item in dataclasses.fields(Reject)])
    writer.writerows(dataclasses.astuple(reject) for reject in rejects)
    write_atomically(file, text.getvalue().encode())


def read_rejects(file: Path) -> list[Reject]:
    """What a preparation left out, from its rejects.csv."""
    with file.open(newline="", encoding="utf-8") as handle:
        return [Reject(**row) for row in csv.DictReader(handle)]


# Plan, lock and disk ----------------------------------------------------------------------------------------


def _describe(
    raw_clips: Sequence[RawClip], settings: PrepareSettings, networks: Networks, shard_bytes: int
) -> dict[str, Any]:
    digest = hashlib.sha256("\n".join(to_json(raw) for raw in raw_clips).encode()).hexdigest()
    # through JSON, so that it compares equal with what is read back
    return json.loads(
        json.dumps(
            {
                "corpus": raw_clips[0].corpus,
                "raw_clips": len(raw_clips),
                "raw_clips_sha256": digest,
                "shard_bytes": shard_bytes,
                "networks_sha256": networks.digests(),
                **dataclasses.asdict(settings),
            }
        )
    )


def _refuse_repeated_ids(raw_clips: Sequence[RawClip]) -> None:
    """Refuse clips that would have one id in the store; `a#1` may be made of `a`."""
    ids = Counter(raw.id for raw in raw_clips)
    for raw in raw_clips:
        whole, _, part = raw.id.rpartition("#")
        if ids[raw.id] > 1 or (part.isdecimal() and whole in ids):
            raise TalkgenError(f"{raw.video}: another video would have its id {raw.id!r}; rename one of them")


def _refuse_changes(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    changed = differences(before, now, sorted({*before, *now} - {"raw_clips_sha256"}))
    if not changed and before.get("raw_clips_sha256") != now["raw_clips_sha256"]:
        changed = ["other clips, or other splits"]
    if changed:
        raise TalkgenError(
            f"{out} was prepared from other clips or with other settings ({'; '.join(changed)}). "
            "Give another out=…, or redo=true to throw it away and begin anew"
        )


def _remove_store(out: Path) -> None:
    for name in ("store.json", "index.npy", "columns.npy", "clips.jsonl", "rejects.csv", "contact_sheet.jpg"):
        (out / name).unlink(missing_ok=True)
    for name in ("shards", "work"):
        shutil.rmtree(out / name, ignore_errors=True)


@contextlib.contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Keep a second preparation from the same folder; the lock goes with its process, however that ends."""
    with (out / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileError(out, "another `talkgen prepare` is at work in this folder") from None
        yield


def estimate_bytes(raw_clips: Sequence[RawClip], source: Path, settings: PrepareSettings) -> int:
    """Size of the store, from the lengths of some clips spread over the corpus; an upper bound in most
    cases.
    """
    step = max(1, len(raw_clips) // _PROBED)
    seconds = []
    for raw in raw_clips[::step]:
        if raw.end_seconds is not None:
            seconds.append(raw.end_seconds - raw.start_seconds)
            continue
        with contextlib.suppress(FileError):
            seconds.append(max(0.0, probe(source / raw.video).seconds - raw.start_seconds))
    if not seconds:
        return 0
    rate = settings.fps * settings.size**2 * _BYTES_PER_PIXEL[settings.codec] + _OTHER_BYTES_PER_SECOND
    rate += sum(_FEATURE_BYTES_PER_SECOND[name] for name in settings.features)
    return int(len(raw_clips) * rate * sum(seconds) / len(seconds))


def _check_disk(raw_clips: Sequence[RawClip], source: Path, out: Path, settings: PrepareSettings) -> None:
    needed, free = estimate_bytes(raw_clips, source, settings), shutil.disk_usage(out).free
    if needed > free:
        raise TalkgenError(
            f"{out}: the store will need up to {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB left. "
            "Give out=… on a larger disk, a smaller size=…, or disk_check=false to try all the same"
        )
