"""An npz of unknown origin gives its arrays or a reason, and nothing else happens."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from talkgen.errors import FileError
from talkgen.npz import read_npz


class Touch:
    """Pickles to something that writes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_what_numpy_wrote_comes_back(tmp_path: Path) -> None:
    wanted = {
        "plain": np.arange(12, dtype=np.float32).reshape(3, 4),
        "turned": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        "number": np.array(5, np.int16),
        "none": np.zeros((0, 68, 2)),
        "words": np.array(["lip", "eye"]),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **wanted)
        found = read_npz(tmp_path / "a.npz")
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype and found[name].flags.writeable
    assert read_npz(tmp_path / "a.npz", ("plain",)).keys() == {"plain"}


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", landmarks=np.array([Touch(tmp_path / "ran")], object))
    with pytest.raises(FileError, match="pickled objects, which could run code"):
        read_npz(tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("landmarks.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(160):
            member.write(bytes(2**20))
    assert (tmp_path / "a.npz").stat().st_size < 200_000
    with pytest.raises(FileError, match=r"would unpack to 0\.2 GB"):
        read_npz(tmp_path / "a.npz")


def test_a_shape_that_the_file_does_not_hold_takes_no_memory(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        content, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 68, 2)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("landmarks.npy", content.getvalue())
    with pytest.raises(FileError, match=r"states .* and holds 0 bytes"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"text" * 99])
def test_what_is_no_npz(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(FileError, match="cannot be read as arrays"):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(FileError, match="cannot be read as arrays"):
        read_npz(tmp_path / "gone.npz")
