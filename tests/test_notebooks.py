from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("espeakng_loader")
    table = tmp_path / "ablation.csv"
    table.write_text("variant,seeds,PSNR ↑,PSNR ↑ std\nbase,2,20,0.3\nunet,2,19,0.4\n")
    monkeypatch.setenv("TALKGEN_ABLATION", str(table))
    content = nbformat.read(notebook, as_version=4)
    assert not any(cell.get("outputs") for cell in content.cells), "strip the outputs before committing"
    client.NotebookClient(content, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
