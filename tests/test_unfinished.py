"""What a process that died left half written goes; what another is writing stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from talkgen.data.files import write_atomically
from talkgen.unfinished import sweep, unfinished_name
from talkgen.video.writer import VideoWriter

WRITER = """
import os, signal, sys
import numpy as np
from talkgen.data.files import temporary_name
from talkgen.video.writer import VideoWriter

temporary_name(sys.argv[1] + "/numbers.json").write_bytes(b"half")
writer = VideoWriter(sys.argv[1] + "/film.mp4", 25, 64, 64)
for _ in range(80):  # more than the encoder holds back
    writer.write(np.zeros((64, 64, 3), np.uint8))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITER, str(tmp_path)], check=False)
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".mp4", ".partial"]
    write_atomically(tmp_path / "table.csv", b"whole")
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    own = unfinished_name(tmp_path / "a.mp4", keep_suffix=True)
    assert own.name.startswith(".a.") and own.suffix == ".mp4"
    names = [own, Path(str(own).replace(f"-{os.getpid()}-", f"-{other.pid}-"))]
    foreign = Path(str(own).replace(own.name.split(".")[2].split("-")[0], "0" * 8))
    visible = tmp_path / "a.partial.mp4"
    for file in (*names, foreign, visible):
        file.write_bytes(b"half")
    assert sweep(tmp_path) == []
    other.communicate()
    os.utime(foreign, (0, 0))  # of another machine, a long time ago
    os.utime(visible, (0, 0))
    assert sorted(sweep(tmp_path)) == sorted([names[1], foreign])
    assert sorted(tmp_path.iterdir()) == sorted([own, visible])
    assert sweep(tmp_path / "nowhere") == []


def test_two_names_of_one_file_differ(tmp_path: Path) -> None:
    assert unfinished_name(tmp_path / "a") != unfinished_name(tmp_path / "a")
    with VideoWriter(tmp_path / "a.mp4", 25, 64, 64) as first:
        import numpy as np

        first.write(np.zeros((64, 64, 3), np.uint8))
        with VideoWriter(tmp_path / "a.mp4", 25, 64, 64) as second:
            second.write(np.zeros((64, 64, 3), np.uint8))
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
