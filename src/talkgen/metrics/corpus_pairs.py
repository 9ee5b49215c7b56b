"""Protocols on raw corpora: which clip gives the frames, which the sound, whose face shall be seen."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from talkgen.audio.waveform import load_waveform
from talkgen.data.clip import RawClip
from talkgen.data.files import write_atomically
from talkgen.errors import FileError, TalkgenError
from talkgen.metrics.video_clips import VideoFile
from talkgen.metrics.video_pairs import PairedVideos, aliases, by_stem, first_of, need_some, with_some_row
from talkgen.video.writer import VideoWriter

Choice = Literal["own", "other"]


@dataclass(frozen=True)
class Performance:
    """One video to be made.

    Attributes:
        target: gives frames, pose and background.
        driving: gives the sound.
        source: gives the face; None: the target's own.
        listed: ``AUDIO_VIDEO`` in the words of a published list, where there is one.
    """

    target: RawClip
    driving: RawClip
    source: RawClip | None
    listed: str = ""

    @property
    def id(self) -> str:
        """The target's id, or ``AUDIO_VIDEO`` where the sound is another clip's; full stops for slashes."""
        if self.listed:
            return self.listed
        target, driving = (clip.id.replace("/", ".") for clip in (self.target, self.driving))
        return target if driving == target else f"{driving}_{target}"


@dataclass(frozen=True)
class CorpusPairs:
    """The performances of a protocol, and the folder of the corpus."""

    corpus: Path
    performances: Sequence[Performance]

    @classmethod
    def of(
        cls,
        clips: Sequence[RawClip],
        corpus: Path,
        split: str = "test",
        sound: Choice = "own",
        source: Choice = "own",
        filelist: Path | None = None,
    ) -> CorpusPairs:
        """The clips of a split, each with its sound and source.

        ``other`` is the next clip of another person, in the order of the corpus, one person further for each
        clip of the same person: the same pairs on every machine, without a list.

        Args:
            clips: of the corpus.
            corpus: its folder.
            split: that is scored.
            sound: whose sound drives.
            source: whose face shall be seen.
            filelist: lines ``AUDIO VIDEO`` of clip ids or paths below the folder, without ``.mp4``, as
                Wav2Lip and Diff2Lip publish them; they replace ``sound`` and ``split``.

        Raises:
            TalkgenError: there is nothing to score.
        """
        if filelist is not None:
            listed = _listed(filelist, clips)
            pairs = [(target, driving) for target, driving, _ in listed]
            names = [name for *_, name in listed]
        else:
            scored = [clip for clip in clips if clip.split == split and not clip.swap_of]
            if not scored:
                raise TalkgenError(f"{corpus}: there are no clips of the split {split}")
            others = _others(scored) if sound == "other" else scored
            pairs = list(zip(scored, others, strict=True))
            names = [""] * len(pairs)
        targets = [target for target, _ in pairs]
        sources = _others(targets) if source == "other" else [None] * len(targets)
        together = zip(pairs, sources, names, strict=True)
        return cls(corpus, [Performance(t, d, s, name) for (t, d), s, name in together])

    def limited(self, count: int | None) -> CorpusPairs:
        """At most so many, spread over the list."""
        if count is None or count >= len(self.performances):
            return self
        places = np.linspace(0, len(self.performances) - 1, max(count, 1)).round().astype(int)
        return CorpusPairs(self.corpus, [self.performances[place] for place in places])

    def files(self) -> list[VideoFile]:
        """What a table needs of each."""
        made = []
        for one in self.performances:
            own = one.driving.id == one.target.id and one.target.audio is None
            sound = one.driving.audio or one.driving.video
            made.append(
                VideoFile(
                    one.id,
                    self.corpus / one.target.video,
                    one.target.identity,
                    None if own else self.corpus / sound,
                    one.target.start_seconds,
                    one.target.end_seconds,
                    one.driving.start_seconds,
                    None if one.source is None else one.source.identity,
                )
            )
        return made


def _others(clips: Sequence[RawClip]) -> list[RawClip]:
    """For each clip one of another person; itself where there is nobody else."""
    people = list(dict.fromkeys(clip.identity for clip in clips))
    of_person = {person: [clip for clip in clips if clip.identity == person] for person in people}
    taken = dict.fromkeys(people, 0)
    chosen = []
    for clip in clips:
        strangers = [person for person in people if person != clip.identity]
        if not strangers:
            chosen.append(clip)
            continue
        turn = taken[clip.identity]
        taken[clip.identity] += 1
        person = strangers[(people.index(clip.identity) + turn) % len(strangers)]
        chosen.append(of_person[person][turn // len(strangers) % len(of_person[person])])
    return chosen


def _listed(filelist: Path, clips: Sequence[RawClip]) -> list[tuple[RawClip, RawClip, str]]:
    """Target, driving clip and name of each line."""
    if not filelist.is_file():
        raise FileError(filelist, "no such list")
    names: dict[str, RawClip] = {}
    for clip in clips:
        stem = clip.video.removesuffix(".mp4")
        # Published lists are relative to the folder of a part (test/mp4, lipread_mp4): any tail will do.
        parts = stem.split("/")
        for name in (clip.id, *("/".join(parts[start:]) for start in range(len(parts)))):
            names.setdefault(name, clip)
    pairs = []
    for number, line in enumerate(filelist.read_text(encoding="utf-8").splitlines(), 1):
        words = [word.removesuffix(".mp4") for word in line.split()]
        if not words:
            continue
        if len(words) != 2:
            raise FileError(filelist, f"line {number} is not AUDIO VIDEO: {line[:80]!r}")
        for word in words:
            if word not in names:
                raise FileError(filelist, f"line {number} names {word}, which the corpus does not have")
        name = "_".join(word.replace("/", ".") for word in words)
        pairs.append((names[words[1]], names[words[0]], name))
    if not pairs:
        raise FileError(filelist, "is empty")
    return pairs


def with_rows(pairs: CorpusPairs, folders: Mapping[str, Path]) -> PairedVideos:
    """The videos that each folder has of the performances, called by their ids.

    Raises:
        TalkgenError: a folder has none.
    """
    files = pairs.files()
    rows: dict[str, list[Path | None]] = {}
    for name, folder in folders.items():
        there = by_stem(folder)
        own_sound = [not one.listed and one.driving is one.target for one in pairs.performances]
        rows[name] = [
            first_of(there, [one.id, *(aliases(one.target.id, False) if own else [])])
            for one, own in zip(pairs.performances, own_sound, strict=True)
        ]
        need_some(name, folder, rows[name], [file.id for file in files])
    own = [one.driving.id == one.target.id for one in pairs.performances]
    return with_some_row(PairedVideos(files, rows, own))


def write_jobs(file: Path, pairs: CorpusPairs, fps: float) -> int:
    """A table for ``talkgen generate batch=``; the number of its lines.

    Stretches of longer videos are cut into files beside the table (``inputs/``), and source pictures are the
    middle frames of the sources' videos.
    """
    inputs = file.parent / "inputs"
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["face", "source", "audio", "out"])
    for one in pairs.performances:
        face = _cut(pairs.corpus, one.target, inputs, fps)
        sound = face if one.driving is one.target else _cut(pairs.corpus, one.driving, inputs, fps)
        source = "" if one.source is None else _picture(pairs.corpus, one.source, inputs, fps)
        writer.writerow([face, source, sound, f"{one.id}.mp4"])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, out.getvalue().encode())
    return len(pairs.performances)


def _cut(corpus: Path, clip: RawClip, inputs: Path, fps: float) -> str:
    """The clip as a file of its own: as it is, or the stretch of it that is meant."""
    video = (corpus / clip.video).resolve()
    if clip.start_seconds == 0 and clip.end_seconds is None and clip.audio is None:
        return str(video)
    file = inputs / f"{clip.id.replace('/', '.')}.mp4"
    if not file.is_file():
        stream = VideoFile(clip.id, video, "", None, clip.start_seconds, clip.end_seconds).frames(fps)
        seconds = stream.count / fps
        sound = load_waveform(
            corpus / (clip.audio or clip.video), start_seconds=clip.start_seconds, seconds=seconds
        )
        first = stream.read(0, 1)[0]
        inputs.mkdir(parents=True, exist_ok=True)
        with VideoWriter(file, fps, first.shape[1], first.shape[0], 12, audio=(sound, 16000)) as out:
            for frame in range(stream.count):
                out.write(stream.read(frame, frame + 1)[0])
    return str(file.resolve())


def _picture(corpus: Path, clip: RawClip, inputs: Path, fps: float) -> str:
    import cv2

    file = inputs / f"{clip.id.replace('/', '.')}.png"
    if not file.is_file():
        stream = VideoFile(
            clip.id, corpus / clip.video, "", None, clip.start_seconds, clip.end_seconds
        ).frames(fps)
        frame = stream.read(stream.count // 2, stream.count // 2 + 1)[0]
        inputs.mkdir(parents=True, exist_ok=True)
        write_atomically(file, cv2.imencode(".png", frame[..., ::-1])[1].tobytes())
    return str(file.resolve())
