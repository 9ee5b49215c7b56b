"""The demo corpus as raw files in the official layouts of HDTF, VoxCeleb2, LRW and CHDTF.

It lets the adapters and everything behind them be tried on real files without the corpora: names, folders,
picture sizes, lengths, languages and lists are those of the originals; the people are synthetic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from talkgen.audio.speech import speak
from talkgen.data.corpora.demo import SAMPLE_RATE, make_take, write_video
from talkgen.data.corpora.demo_casting import DemoSettings, plan_take, split_of_identity
from talkgen.data.corpora.demo_performance import FPS

LRW_WORDS = ("ABOUT", "BEFORE", "PEOPLE", "MEMBERS", "PROBABLY", "WEATHER")
LRW_FRAMES = 29


def export_demo(out: str | Path, layout: str, settings: DemoSettings | None = None) -> list[Path]:
    """Write videos of the demo people in the layout of a published corpus.

    Args:
        out: folder of the corpus, as its adapter's ``find_clips`` takes it.
        layout: ``hdtf``, ``voxceleb2``, ``lrw`` or ``chdtf``.
        settings: people, clips, seconds and seed; VoxCeleb2 (224 pixels) and LRW (256 pixels, 29 frames) have
            sizes of their own. None for three people with two clips of 2 s.

    Returns:
        The videos.

    Raises:
        ValueError: no such layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    settings = settings or DemoSettings(identities=3, clips_per_identity=2, seconds=2.0, size_pixels=256)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    return LAYOUTS[layout](folder, settings)


def _hdtf(out: Path, settings: DemoSettings) -> list[Path]:
    """Whole videos under ``videos``, and the lists that say where faces are; every second is from radio."""
    settings = replace(settings, seconds=float(max(round(settings.seconds), 1)))  # the lists count seconds
    seconds, size = int(settings.seconds), settings.size_pixels
    lists: dict[str, list[str]] = {}
    videos = []
    for identity in range(settings.identities):
        subset, name = (
            ("RD", f"Radio{identity + 1}") if identity % 2 else ("WDA", f"DemoSenator{_letter(identity)}0")
        )
        takes = [
            make_take(plan_take(settings, identity, take, language="en"), settings)
            for take in range(settings.clips_per_identity)
        ]
        file = out / "videos" / f"{name}.mp4"
        file.parent.mkdir(exist_ok=True)
        write_video(np.concatenate([take.waveform for take in takes]), takes, file, settings)
        videos.append(file)
        stamps = " ".join(
            f"{_stamp(k * seconds)}-{_stamp((k + 1) * seconds)}" for k in range(settings.clips_per_identity)
        )
        for key, line in (
            ("video_url", f"{name}.mp4 https://example.org/{name}"),
            ("annotion_time", f"{name}.mp4 {stamps}"),
            ("resolution", f"{name}.mp4 {size}"),
        ):
            lists.setdefault(f"{subset}_{key}", []).append(line)
        for k in range(settings.clips_per_identity):
            lists.setdefault(f"{subset}_crop_wh", []).append(f"{subset}_{name}_{k}.mp4 0 {size} 0 {size}")
    (out / "HDTF_dataset").mkdir(exist_ok=True)
    for key, lines in lists.items():
        (out / "HDTF_dataset" / f"{key}.txt").write_text("\n".join(lines) + "\n")
    return videos


def _voxceleb2(out: Path, settings: DemoSettings) -> list[Path]:
    """``{dev,test}/mp4/idXXXXX/<video>/<utterance>.mp4``, 224 pixels."""
    settings = replace(settings, size_pixels=224)
    videos = []
    for identity in range(settings.identities):
        part = "test" if split_of_identity(settings, identity) == "test" else "dev"
        for take in range(settings.clips_per_identity):
            code = hashlib.sha256(f"{settings.seed}:{identity}:{take}".encode()).hexdigest()[:11]
            file = out / part / "mp4" / f"id{identity + 10:05d}" / code / f"{take + 1:05d}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            made = make_take(plan_take(settings, identity, take), settings)
            write_video(made.waveform, [made], file, settings)
            videos.append(file)
    return videos


def _lrw(out: Path, settings: DemoSettings) -> list[Path]:
    """``lipread_mp4/WORD/{train,val,test}/WORD_00001.mp4``: one word in the middle of 29 frames."""
    settings = replace(settings, size_pixels=256, seconds=LRW_FRAMES / FPS)
    videos = []
    for number, word in enumerate(LRW_WORDS[: max(settings.clips_per_identity, 1)]):
        for identity in range(settings.identities):
            for split in ("train", "val", "test"):
                if (split == "test") != (split_of_identity(settings, identity) == "test"):
                    continue
                take = number + len(LRW_WORDS) * ("train", "val", "test").index(split)
                plan = plan_take(settings, identity, take, language="en", split=split)
                spoken = speak(word.lower(), "en", plan.voice)
                seconds = len(spoken.waveform) / spoken.sample_rate
                lead = max(0.0, (settings.seconds - seconds) / 2)
                made = make_take(replace(plan, sentences=(word.lower(),), lead_seconds=lead), settings)
                file = out / "lipread_mp4" / word / split / f"{word}_{identity + 1:05d}.mp4"
                file.parent.mkdir(parents=True, exist_ok=True)
                write_video(made.waveform[: LRW_FRAMES * SAMPLE_RATE // FPS], [made], file, settings)
                file.with_suffix(".txt").write_text(
                    f"Disk reference: demo\nChannel: demo\nProgram start: 0\nClip start: 0\n"
                    f"Duration: {min(seconds, settings.seconds):.2f} seconds\n"
                )
                videos.append(file)
    return videos


def _chdtf(out: Path, settings: DemoSettings) -> list[Path]:
    """``<anchor>_<number>_crop_<size>_<piece>.mp4``: Mandarin anchors."""
    videos = []
    for identity in range(settings.identities):
        for take in range(settings.clips_per_identity):
            file = out / f"anchor{_letter(identity)}_{take + 1}_crop_{settings.size_pixels}_000.mp4"
            made = make_take(plan_take(settings, identity, take, language="zh"), settings)
            write_video(made.waveform, [made], file, settings)
            videos.append(file)
    return videos


def _letter(index: int) -> str:
    """a, b, … z, aa, ab …"""
    return (_letter(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)


def _stamp(seconds: int) -> str:
    """Minutes and seconds as the lists of HDTF write them."""
    return f"{seconds // 60:02d}:{seconds % 60:02d}"


LAYOUTS: dict[str, Callable[[Path, DemoSettings], list[Path]]] = {
    "hdtf": _hdtf,
    "voxceleb2": _voxceleb2,
    "lrw": _lrw,
    "chdtf": _chdtf,
}
