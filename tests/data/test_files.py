"""Who may write into a folder."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from talkgen.data.files import only_one


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
