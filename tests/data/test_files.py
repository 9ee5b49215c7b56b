"""Who may write into a folder, and what a reader finds there."""

from __future__ import annotations

import errno
import io
import logging
import threading
from pathlib import Path

import numpy as np
import pytest

from talkgen.data import files
from talkgen.data.files import only_one, write_array, written_atomically


def test_the_second_waits_for_the_first_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    order: list[str] = []

    def second() -> None:
        with only_one(tmp_path):
            order.append("second")

    waiting = threading.Thread(target=second)
    with caplog.at_level(logging.WARNING), only_one(tmp_path):
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and "waiting for it" in caplog.text
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


def test_nothing_is_left_of_what_could_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("old")
    with pytest.raises(ValueError, match="half way"), written_atomically(tmp_path / "kept") as stream:
        stream.write(b"new")
        raise ValueError("half way")
    assert [file.name for file in tmp_path.iterdir()] == ["kept"] and (tmp_path / "kept").read_text() == "old"


def test_an_array_is_what_numpy_saves_and_a_full_disk_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.arange(60_000, dtype=np.float32).reshape(3, -1)
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_array(tmp_path / "a.npy", array)
    assert (tmp_path / "a.npy").read_bytes() == buffer.getvalue()
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    monkeypatch.setattr(files, "temporary_name", lambda file: full)
    with pytest.raises(OSError, match="No space left") as raised:
        write_array(tmp_path / "b.npy", array)
    assert raised.value.errno == errno.ENOSPC and not full.is_symlink()
