"""The notebook of the examples runs as it stands, beside the demo."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_look.ipynb"


def test_notebook_has_no_outputs():
    for cell in nbformat.read(NOTEBOOK, 4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.long
def test_notebook_runs_beside_the_demo(demo, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("WAMP_", "SISOCK_"))]:
        monkeypatch.delenv(name)
    for name in ("XDG_RUNTIME_DIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, demo.environment["XDG_RUNTIME_DIR"])
    notebook = nbformat.read(NOTEBOOK, 4)
    examples = {"metadata": {"path": str(demo.checkout / "examples")}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=examples).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    text = str(outputs)
    for shown in (
        "Daily weather of Seattle",
        "precipitation",
        "Sample(t=",
        "temp_max",
        "did you mean cpu.total",
        "image/png",
    ):
        assert shown in text, shown
