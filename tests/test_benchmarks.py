"""The runner of benchmarks counts, names and goes on; tables go where they belong; each script measures."""

from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from script_module import ROOT, load_script

from talkgen.video.reader import probe
from talkgen.video.writer import VideoWriter


def load(name: str) -> ModuleType:
    """A script, under a name that no other module has."""
    return load_script(f"benchmarks/{name}.py", f"benchmark_{name.strip('_')}")


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    return load("__main__")


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that keeps tables, in a folder of its own."""
    import document

    (tmp_path / "performance").mkdir()
    (tmp_path / "performance.md").write_text(
        "# Performance\n\n<!-- pages -->\n<!-- end of pages -->\n\n<!-- runs -->\n<!-- end of runs -->\n"
    )
    monkeypatch.setattr(document, "INDEX", tmp_path / "performance.md")
    monkeypatch.setattr(document, "PAGES", tmp_path / "performance")
    return document


# --- the runner ---------------------------------------------------------------------------------------------

FAKES = {
    "good": "import sys; print('a table', *sys.argv[1:])",
    "bad": "print('half a table'); raise ValueError('a | b\\n')",
    "lost": "import sys; sys.exit('a sample was lost')",
    "slow": "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])",
    "late": "print('too late')",
}


@pytest.fixture
def fakes(tmp_path: Path) -> Path:
    for name, text in FAKES.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def inputs(runner: ModuleType, clips: Path | None = None, runs: Path = Path("nowhere")) -> Any:
    return runner.Inputs(clips, runs, lambda: Path("rendered"))


def test_what_fails_or_is_slow_stops_nothing_and_is_counted(
    runner: ModuleType, document: ModuleType, fakes: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(runner, "LEAST", 1.0)
    chosen = [
        runner.Benchmark("slow", 0.2),
        runner.Benchmark("bad", 0.1),
        runner.Benchmark("good", 0.0, "--some 3"),
        runner.Benchmark("lost", 0.1),
        runner.Benchmark("method", 0.1, "--run {runs}/swaptalk-demo"),
        runner.Benchmark("faces", 0.1, "{clips}"),
        runner.Benchmark("drawn", 0.1, "{clips}", rendered=True),
        runner.Benchmark("late", 1000),
    ]
    (fakes / "drawn.py").write_text("import sys; assert sys.argv[1:] == ['rendered']")
    began = time.monotonic()
    outcomes = runner.measure_all(chosen, fakes, inputs(runner), seconds=500, write=True)
    assert time.monotonic() - began < 30
    found = {one.name: (one.what, one.why) for one in outcomes}
    assert next(iter(found)) == "good" and list(found)[-1] == "late"
    assert found["good"] == ("written", "")
    assert found["bad"] == ("failed", "ValueError: a | b")
    assert found["lost"] == ("failed", "a sample was lost")
    assert found["slow"][0] == "failed" and "longer than 1 s" in found["slow"][1]
    assert found["method"][0] == "skipped" and "swaptalk-demo in --runs" in found["method"][1]
    assert found["faces"] == ("skipped", "needs --clips FOLDER")
    assert found["drawn"] == ("printed", "rendered clips stood for real ones")  # without --write
    assert found["late"] == ("not run", "out of time")
    said = capfd.readouterr().out
    assert "a table --some 3 --write" in said and "[8/8] late" in said
    runner.keep_summary(outcomes, [one.name for one in chosen], document.INDEX)
    page = document.INDEX.read_text()
    assert "8 tried: 1 written, 1 printed, 2 skipped, 1 not run, 3 failed." in page
    assert "| `bad` | 0 | failed: ValueError: a / b |" in page.replace("| 1 |", "| 0 |")
    again = [runner.Outcome("bad", "written", seconds=3.0)]
    runner.keep_summary(again, [one.name for one in chosen], document.INDEX)
    assert "8 tried: 2 written, 1 printed, 2 skipped, 1 not run, 2 failed." in document.INDEX.read_text()


def test_what_the_machine_lacks_is_no_failure(runner: ModuleType, fakes: Path) -> None:
    (fakes / "lacking.py").write_text("import a_package_that_is_nowhere")
    (outcome,) = runner.measure_all([runner.Benchmark("lacking", 1)], fakes, inputs(runner), 60, True)
    assert (outcome.what, outcome.why) == ("skipped", "needs the package a_package_that_is_nowhere")
    said = "Traceback\ntalkgen.errors.MissingWeights: the weights 'x' are not here; talkgen weights get x\n"
    assert runner.cause(1, said) == ("skipped", "needs the weights 'x' are not here; talkgen weights get x")
    assert runner.cause(3, "") == ("failed", "exit status 3")
    said = (
        "talkgen.errors.FileError: /home/me/demo: no such folder; `talkgen prepare corpus=… out=…` makes it"
    )
    outcome = runner.Outcome("diff2lip", *runner.cause(1, said))
    assert "| skipped: needs the store …/demo: no such folder; `talkgen prepare` |" in outcome.row()


def test_the_last_benchmark_is_ended_when_time_is_up(runner: ModuleType, fakes: Path) -> None:
    (outcome,) = runner.measure_all([runner.Benchmark("slow", 0.5)], fakes, inputs(runner), 1.0, True)
    assert outcome.what == "not run" and outcome.why == "out of time after 1 s"


@pytest.mark.parametrize(("names", "status"), [(["good"], 0), (["good", "bad"], 1)])
def test_a_failure_is_the_commands_status(
    runner: ModuleType,
    fakes: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    status: int,
    capfd: Any,
) -> None:
    (fakes / "benchmarks").symlink_to(fakes)
    monkeypatch.setattr(runner, "ROOT", fakes)
    monkeypatch.setattr(runner, "BENCHMARKS", tuple(runner.Benchmark(name, 1) for name in FAKES))
    monkeypatch.setattr(sys, "argv", ["benchmarks", *names, "--print"])
    assert runner.main() == status
    assert f"{len(names)} tried: 1 printed, {status} failed." in capfd.readouterr().out


def test_every_script_runs_within_the_hour(runner: ModuleType) -> None:
    keeping = 'add_argument("--write"'
    scripts = {file.stem for file in (ROOT / "benchmarks").glob("[a-z]*.py") if keeping in file.read_text()}
    assert {one.name for one in runner.BENCHMARKS} == scripts
    assert sum(one.seconds for one in runner.BENCHMARKS) < 3600
    for name in scripts:
        assert "keep(" in (ROOT / "benchmarks" / f"{name}.py").read_text(), name
    assert "$(BIN)/python benchmarks\n" in (ROOT / "Makefile").read_text()


# --- pages --------------------------------------------------------------------------------------------------


def test_a_table_replaces_the_last_one_alone(document: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/vqgan.py", "--write", str(ROOT / "docs"), "--repeats", "2"])
    document.keep("vqgan", "VQGAN", "| 1 |")
    page = document.page("vqgan")
    assert page.read_text().startswith("# VQGAN\n\n<!-- table -->\nMade by `python benchmarks/vqgan.py docs ")
    assert str(ROOT) not in page.read_text() and re.search(r"20\d\d-\d\d-\d\d, .+ cores", page.read_text())
    assert "| SwapTalk | [VQGAN](performance/vqgan.md) |" in document.INDEX.read_text()
    page.write_text(page.read_text() + "\nBy hand.\n")
    document.keep("vqgan", "VQGAN", "| 2 |")
    assert "| 1 |" not in page.read_text() and "| 2 |\n<!-- end of table -->\n\nBy hand." in page.read_text()
    monkeypatch.setattr(document, "machine", lambda device: "a GPU")
    document.keep("vqgan", "VQGAN", "| 3 |", device="cuda")
    assert "| 2 |" in page.read_text() and "| 3 |" in document.page("vqgan", "cuda").read_text()
    assert "[VQGAN, on a GPU](performance/vqgan_gpu.md)" in document.INDEX.read_text()
    with pytest.raises(ValueError, match="needs the lines <!-- other -->"):
        document.keep("vqgan", "VQGAN", "| 4 |", "other")
    document.keep("news", "News", "| 5 |")
    assert "| further | [news](performance/news.md) |" in document.INDEX.read_text()


def test_pages_of_the_project_have_marks_and_the_index_is_made_of_them() -> None:
    import document

    assert document.read_between(document.INDEX, "pages").strip() == document.index()
    for page in document.PAGES.glob("*.md"):
        begun = re.findall(r"^<!-- (\w+) -->$", page.read_text(), re.M)
        assert begun and all(document.read_between(page, part).strip() for part in begun), page.name


# --- the smallest measure of each script --------------------------------------------------------------------


def once(call: Any, *_: Any, **__: Any) -> float:
    """In place of a measurement: the call, and a second."""
    call()
    return 1.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of moving blots with a tone."""
    file = tmp_path_factory.mktemp("clip") / "clip.mp4"
    rng = np.random.default_rng(0)
    ground = cv2.resize(
        rng.integers(40, 215, (24, 24, 3), np.uint8), (320, 320), interpolation=cv2.INTER_CUBIC
    )
    tone = 0.3 * np.sin(np.arange(32000) / 5).astype(np.float32)
    with VideoWriter(file, 25, 256, 256, audio=(tone, 16000)) as writer:
        for k in range(50):
            writer.write(np.ascontiguousarray(ground[k : k + 256, k // 2 : k // 2 + 256]))
    return file


def test_both_ways_of_hearing_give_the_same(tmp_path: Path) -> None:
    audio = load("audio")
    noise = np.random.default_rng(0).normal(0, 0.1, audio.RATE).astype(np.float32)
    audio.save_waveform(tmp_path / "a.wav", noise)
    usual = np.stack(audio.usual_windows(tmp_path / "a.wav", [3]))
    assert np.abs(usual - audio.stored_windows(tmp_path / "a.wav", [3])).max() < 1e-4
    assert "| it | 2000.00 | 500.000 | 4.0 |" in audio.table([("it", 2.0, 0.5)])


def test_samplers() -> None:
    samplers = load("samplers")
    from talkgen.diffusion.ddim import DDIM
    from talkgen.diffusion.dpm_solver import DPMSolver

    assert samplers.error(DPMSolver(25, spacing="log_snr")) < 0.2 * samplers.error(DDIM(25))


def test_vqgan(monkeypatch: pytest.MonkeyPatch) -> None:
    vqgan = load("vqgan")
    monkeypatch.setattr(vqgan, "SIZE", 32)
    monkeypatch.setattr(vqgan, "BODIES", {"tiny": {"channels": 32, "multipliers": (1, 1, 1), "blocks": 1}})
    monkeypatch.setattr(vqgan, "best_rate", lambda dtype: 1e9)
    monkeypatch.setattr(vqgan, "seconds", once)
    with torch.inference_mode():
        lines = vqgan.measure(1)
    assert len(lines) == 2 + 4 * 2 + 1 and "| 1000 | 1.00 |" in lines[2]


def test_the_published_renderer_wastes_time_and_nothing_else() -> None:
    disenttalk = load("disenttalk")
    network, size = disenttalk.ours("demo")
    source, motion = torch.rand(1, 3, size, size) * 2 - 1, torch.randn(1, 27, 73)
    with torch.no_grad():
        network.eval()
        motion = network.describe(motion, motion[:, 13])[0]
        lean = network.render(source, motion)
        published = disenttalk.as_published(network).render(source, motion)
    assert torch.equal(lean.generated, published.generated)


def test_disenttalk_motion(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    motion = load("disenttalk_motion")
    few = {name: (type(sampler)(2), scale) for name, (sampler, scale) in motion.WAYS.items()}
    monkeypatch.setattr(motion, "WAYS", few)
    monkeypatch.setattr(motion, "seconds", once)
    monkeypatch.setattr(sys, "argv", ["disenttalk_motion.py"])
    motion.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.endswith("×") or "1.0 ×" in line]
    assert len(rows) == len(few) + 1


def test_face_fitting() -> None:
    fitting = load("face_fitting")
    assert fitting.events(np.array([0, 1, 1, 0, 1, 0, 0, 1], bool)) == 3
    expression = np.zeros((2, 64), np.float32)
    lips, lids = fitting.openings(expression)
    assert lips.shape == lids.shape == (2,) and (lids != 0).all()


def test_both_ways_of_pasting_give_the_same_picture() -> None:
    faces = load("faces")
    from talkgen.faces.blending import paste_back
    from talkgen.faces.mask import lower_half_mask

    rng = np.random.default_rng(0)
    frame = cv2.resize(rng.integers(0, 255, (9, 16, 3), np.uint8), (160, 90))
    crop = cv2.resize(rng.integers(0, 255, (8, 8, 3), np.uint8), (64, 64))
    matrix = np.array([[1.0, 0, -40], [0, 1.0, -10]], np.float32)
    mask = lower_half_mask(64, 4)
    usual = faces.usual_paste(frame.copy(), crop, matrix, mask)
    ours = paste_back(frame.copy(), crop, matrix, mask)
    assert np.abs(usual.astype(int) - ours).max() <= 3 and np.abs(ours.astype(int) - frame).max() > 20


def test_generate(clip: Path, tmp_path: Path) -> None:
    generate = load("generate")
    assert generate.talking(clip.parent) == [clip]
    made = generate.enlarged(clip, tmp_path / "made.mp4", generate.RATES[1], 3.0, 180)
    info = probe(made)
    assert (info.width, info.height, info.frames) == (320, 180, 90) and info.has_audio
    assert generate.outside(made, made) == float("inf")


def test_latents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = load("latents")
    for name, value in (("CLIPS", 2), ("FRAMES", 64), ("seconds", once)):
        monkeypatch.setattr(latents, name, value)
    from talkgen.models.vqgan.vqgan import build_vqgan

    encode = latents.Encoder(build_vqgan(channels=32, multipliers=(1, 1, 1), blocks=1).eval(), 16, tmp_path)
    rows = latents.building(encode, latents.make_store(tmp_path / "store", 16), tmp_path, "demo")
    assert (
        len(rows) == 5 and rows[-1][1] > 20 * rows[0][1]
    )  # a second of encoding for 64 pictures, or for one


def test_loader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip: Path) -> None:
    loader = load("loader")
    monkeypatch.setattr(loader, "LENGTH", 50)
    films = loader.films(clip.parent)
    assert [film.frames.shape for film in films] == [(50, 204, 204, 3)]
    read, kilobytes, psnr = loader.pack(films, 64, loader.codecs()["PNG, cv2"])
    assert loader.measure(read, 64, 0.01) > 0 and kilobytes > 1 and psnr == 99
    stored = loader.store(tmp_path, films, 64)
    assert loader.measure(stored, 64, 0.01) > 0


def test_provenance(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provenance = load("provenance")
    monkeypatch.setattr(provenance, "SECONDS", 1.0)
    found = provenance.of_clip(clip, tmp_path)
    assert found["crf 18"] >= provenance.THRESHOLD > max(found["unmarked"], found["others"])
    assert found["mark"] > 38 and found["plain"] >= found["made"]


def test_startup() -> None:
    startup = load("startup")
    assert 0 < startup.processor_seconds(["-c", "pass"], 1) < 2
    compile(startup.TRAINING, "startup", "exec")


def test_swaptalk() -> None:
    swaptalk = load("swaptalk")
    with torch.inference_mode():
        parts = {part.name: part for part in swaptalk.parts("demo", "f8", ["unet"], "cpu")}
        for part in parts.values():
            part.call()
    assert parts["lip-sync"].frames == parts["face swap (unet)"].frames == swaptalk.WINDOW
    assert sum(not part.frames for part in parts.values()) == 2


def test_threads(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    threads = load("threads")
    monkeypatch.setattr(sys, "stdin", io.StringIO("go\n"))
    threads.child(0.001, False)
    ready, seconds = capsys.readouterr().out.split()
    assert ready == "ready" and 0 < float(seconds) < 10


def test_a_moment_belongs_to_the_innermost_part(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = load("training_steps")
    clock, moments = steps.Clock("cpu"), iter([0, 1, 2, 5, 6, 10])
    monkeypatch.setattr(clock, "_moment", lambda: float(next(moments)))
    clock.start()  # 0
    clock.begin("forward")  # 1
    clock.begin("experts")  # 2
    clock.end("experts")  # 5
    clock.end("logging")  # not open
    clock.end("forward")  # 6
    shares = clock.stop()  # 10
    assert shares["experts"] == pytest.approx(0.3) and shares["forward"] == pytest.approx(0.2)
    assert shares["rest"] == pytest.approx(0.5) and sum(shares.values()) == pytest.approx(1)
    row = steps.Row("a", "fp32", 2, 10, 0.5, 10**9, 0, shares)
    assert "| 500.0 | 20.0 | 1.00 | 1.0 | 20% |" in steps.as_table([row], 1e10)[-1]


def test_ray_workers(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    workers = load("ray_workers")
    flag = tmp_path / "died"
    cells, good = workers._row("prepare", flag, [["a", "b"], ["a", "a"]], True, [1.0, 2.0])
    assert cells == ["prepare", 2, 0, 1, 1, "the same", "1.0", "2.0"] and not good
    flag.touch()
    assert workers._row("prepare", flag, [["a"], ["a"]], True, [1.0])[1]


def test_demo_rendering() -> None:
    rendering = load("demo_rendering")
    take = rendering.take_of(64)
    difference = np.abs(rendering.numpy_frame(take, 10).astype(float) - take.frame(10)).mean()
    assert 0 < difference < 8  # without highlights
