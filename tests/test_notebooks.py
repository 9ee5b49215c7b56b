"""Every notebook runs from top to bottom. Those that train take few steps of few variants here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six prepared clips of the demo corpus, for the notebooks that train several networks on one."""
    pytest.importorskip("espeakng_loader")
    from talkgen.data.clip_preparation import PrepareSettings
    from talkgen.data.corpora.demo import find_clips, generate_demo
    from talkgen.data.corpora.demo_casting import TINY
    from talkgen.data.filters import FilterSettings
    from talkgen.data.prepare import prepare

    folder = tmp_path_factory.mktemp("demo")
    generate_demo(folder / "raw", replace(TINY, swaps_per_identity=0), workers=1, progress=False)
    filters = FilterSettings(
        min_seconds=1.0, min_face_pixels=0, max_yaw_degrees=90, min_sharpness=0, min_speech_ratio=0
    )
    settings = PrepareSettings(size=96, speech="energy", detect_every=5, filters=filters)
    prepare(find_clips(folder / "raw"), folder / "raw", folder / "store", settings, progress=False)
    return folder / "store"


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(
    notebook: Path, demo_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    table = tmp_path / "ablation.csv"
    table.write_text("variant,seeds,PSNR ↑,PSNR ↑ std\nbase,2,20,0.3\nunet,2,19,0.4\n")
    monkeypatch.setenv("TALKGEN_ABLATION", str(table))
    monkeypatch.setenv("TALKGEN_QUICK", "1")
    monkeypatch.setenv("TALKGEN_STORE", str(demo_store))
    content = nbformat.read(notebook, as_version=4)
    assert not any(cell.get("outputs") for cell in content.cells), "strip the outputs before committing"
    client.NotebookClient(content, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
