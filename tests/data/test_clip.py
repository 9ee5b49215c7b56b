from __future__ import annotations

from pathlib import Path

import pytest

from talkgen.data.clip import Clip, RawClip, from_json, to_json
from talkgen.data.manifest import read_manifest, write_manifest
from talkgen.errors import FileError

CLIP = Clip(
    id="id1/v/00001#2", corpus="voxceleb2", split="test", identity="id1", frames=50, fps=25.0, size=128,
    shard="shards/00000.tar", checks={"blur": 3.5},
)  # fmt: skip
RAW = RawClip(id="a", corpus="folder", split="train", video="名/a.mp4", identity="x", notes="one\u2028line")


@pytest.mark.parametrize("clip", [CLIP, RAW])
def test_round_trip(clip: Clip | RawClip) -> None:
    line = to_json(clip)
    assert "\n" not in line
    assert from_json(line, type(clip)) == clip


def test_defaults_are_left_out_and_filled_in() -> None:
    assert "language" not in to_json(CLIP)
    short = from_json(
        '{"id":"a","corpus":"c","split":"val","identity":"i","frames":2,"fps":25,"size":8}', Clip
    )
    assert short.checks == {} and short.seconds == pytest.approx(0.08)


def test_unknown_and_missing_keys_are_named() -> None:
    with pytest.raises(ValueError, match="'framez'"):
        from_json(to_json(CLIP)[:-1] + ', "framez": 3}', Clip)
    with pytest.raises(ValueError, match="'identity'"):
        from_json('{"id":"a","corpus":"c","split":"val","frames":2,"fps":25,"size":8}', Clip)


def test_impossible_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="training"):
        RawClip(id="a", corpus="c", split="training", video="v", identity="i")
    with pytest.raises(ValueError, match="before it starts"):
        RawClip(id="a", corpus="c", split="train", video="v", identity="i", start_seconds=3, end_seconds=2)


def test_manifest_file(tmp_path: Path) -> None:
    file = tmp_path / "clips.jsonl"
    write_manifest(file, [RAW])
    assert read_manifest(file, RawClip) == [RAW]
    assert list(tmp_path.iterdir()) == [file]
    write_manifest(file, [RAW, RAW])
    with pytest.raises(FileError, match=r"line 2: a second clip with id 'a'"):
        read_manifest(file, RawClip)
    file.write_text('{"id": 1\n')
    with pytest.raises(FileError, match="line 1"):
        read_manifest(file, RawClip)
    with pytest.raises(FileError, match="talkgen prepare"):
        read_manifest(tmp_path / "absent.jsonl", RawClip)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("start_seconds", '"now"', "start_seconds is 'now', should be float or int"),
        ("start_seconds", "NaN", "start_seconds is nan"),
        ("start_seconds", "9" * 400, "too large"),
        ("start_seconds", "1e308", "start_seconds is 1e"),
        ("notes", "9" * 5000, "4300 digits"),
        ("video", "null", "video is 'None', should be str"),
        ("notes", '"\\ud800"', "surrogates not allowed"),
        ("audio", "[" * 4000, "recursion"),
    ],
)
def test_values_of_another_kind_are_refused_with_their_line(key, value, says, tmp_path) -> None:
    """They would be met hours later, far from the manifest, and end all of a preparation."""
    known = '"id": "b", "corpus": "c", "split": "val", "video": "v", "identity": "i"'
    line = f'{{{known}, "{key}": {value}}}'
    (tmp_path / "clips.jsonl").write_text(to_json(RAW) + "\n" + line)
    with pytest.raises(FileError, match=rf"line 2: .*{says}"):
        read_manifest(tmp_path / "clips.jsonl", RawClip)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "clips.jsonl").write_bytes(to_json(RAW).encode() + b"\xff")
    with pytest.raises(FileError, match="no text in UTF-8"):
        read_manifest(tmp_path / "clips.jsonl", RawClip)
