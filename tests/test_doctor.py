from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from talkgen import doctor, weights
from talkgen.doctor import Finding, State


def only(findings: list[Finding], subject: str) -> Finding:
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


def test_every_lack_has_a_cure_and_every_cure_a_lack() -> None:
    findings = [finding for checks in doctor.SECTIONS.values() for check in checks for finding in check()]
    assert all(bool(finding.cure) == (finding.state is not State.GOOD) for finding in findings)
    assert {"python", "packages", "torch", "torchvision", "ffmpeg", "CPU", "configs"} <= {
        finding.subject for finding in findings
    }


def test_this_environment_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    start = time.perf_counter()
    assert doctor.main([]) == 0
    assert time.perf_counter() - start < 10
    out = capsys.readouterr().out
    assert "✗" not in out.replace("✗ broken", "") and "talkgen can be used here" in out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom talkgen import doctor\n"
        "try: doctor.main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'hydra', 'omegaconf', 'av') if m in sys.modules])"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.splitlines()[-1] == "[]"


def test_requirements_are_those_of_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.requirements()
    assert ("", "torch", ">=2.6") in found
    assert ("demo", "espeakng-loader", ">=0.2.4") in found
    assert not [package for _, package, _ in found if package == "pytest"]


def test_packages_that_are_absent_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.7.0+cpu", "av": "13.0"}

    def version(package: str) -> str:
        if package not in versions:
            raise importlib.metadata.PackageNotFoundError(package)
        return versions[package]

    wanted = [("", "torch", ">=2.6"), ("", "av", ">=14"), ("", "einops", ">=0.8"), ("ray", "ray", ">=2.40")]
    monkeypatch.setattr(doctor, "requirements", lambda: wanted)
    monkeypatch.setattr(importlib.metadata, "version", version)
    required, good, extra = list(doctor.check_packages())
    assert required.state is State.BROKEN
    assert required.text == "av is 13.0, wanted >=14, einops is absent"
    assert required.cure == 'pip install "av>=14" "einops>=0.8"'
    assert good.text == "torch 2.7.0+cpu"
    assert extra == Finding(State.ABSENT, "extra ray", "ray is absent", 'pip install "ray>=2.40"')


def test_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> None:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "requires", absent)
    (found,) = doctor.check_packages()
    assert found.state is State.BROKEN and "pip install -e ." in found.cure


def test_a_torchvision_of_another_torch_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CPU torch beside a CUDA torchvision does."""
    import torchvision

    def nms(*arguments: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nand a long trace")

    monkeypatch.setattr(torchvision.ops, "nms", nms)
    found = only(list(doctor.check_torch()), "torchvision")
    assert found.state is State.BROKEN
    assert found.text.endswith("operator torchvision::nms does not exist")
    assert "same index" in found.cure


def test_a_torch_that_does_not_load_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (found,) = doctor.check_torch()
    assert found.state is State.BROKEN and "--force-reinstall" in found.cure
    assert not list(doctor.check_device())


def test_a_driver_that_torch_does_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    assert "does not reach" in only(list(doctor.check_device()), "GPU").text
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert only(list(doctor.check_device()), "GPU").text == "none"


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 10_000)
    found = only(list(doctor.check_device()), "CPU")
    assert found.state is State.ABSENT and found.cure.startswith("export OMP_NUM_THREADS=")


def test_an_encoder_that_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_can_encode", lambda name: name != "libx264")
    (found,) = doctor.check_video()
    assert found.state is State.BROKEN and "libx264" in found.text
    monkeypatch.setitem(sys.modules, "av", None)
    (found,) = doctor.check_video()
    assert found.state is State.BROKEN


def test_codecs_are_looked_up() -> None:
    pytest.importorskip("av")
    monkey = doctor._can_encode
    assert monkey("aac") and not monkey("no_such_codec")


def test_absent_weights_are_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    demo = only(list(doctor.check_weights()), "weights: demo")
    assert demo.state is State.ABSENT and demo.cure == "talkgen weights get --set demo"
    assert all(name in demo.text for name in weights.SETS["demo"])
    for name in weights.SETS["demo"]:
        (tmp_path / weights.REGISTRY[name].file).touch()
    assert only(list(doctor.check_weights()), "weights: demo").state is State.GOOD


def test_folders_that_are_full_or_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path / "not" / "yet"))
    assert only(list(doctor.check_folders()), "weights folder").state is State.GOOD
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1e9}))
        assert "only 1.0 GB free" in only(list(doctor.check_folders()), "working folder").text
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    found = only(list(doctor.check_folders()), "weights folder")
    assert found.state is State.ABSENT and "TALKGEN_WEIGHTS" in found.cure


def test_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"total": 64e6}))
    (found,) = doctor.check_shared_memory(tmp_path)
    assert found.state is State.ABSENT and "--shm-size" in found.cure
    assert not list(doctor.check_shared_memory(tmp_path / "absent"))


def test_wandb_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    for mode, state in (("", State.GOOD), ("offline", State.GOOD), ("ofline", State.ABSENT)):
        monkeypatch.setenv("WANDB_MODE", mode)
        (found,) = doctor.check_tracking()
        assert found.state is state


def test_a_broken_thing_gives_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Finding(State.BROKEN, "codec", "gone", "get it back")
    monkeypatch.setattr(doctor, "SECTIONS", {"Software": (lambda: iter([broken]),)})
    assert doctor.main([]) == 1
    out = capsys.readouterr().out
    assert "  ✗ codec: gone\n      → get it back" in out and "is broken" in out
