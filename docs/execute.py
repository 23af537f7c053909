"""Runs the notebooks of this folder, each in an empty folder, and stores what they print: `make notebooks`."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
LANGUAGE = {"name": "python", "pygments_lexer": "ipython3"}  # `!command` is no Python
TIMED = re.compile(  # durations, cost ratios, a table's milliseconds, folders: what another run or machine changes
    r"(< )?\d[\d.,]* ?(ms|s|min|h)\b|1/\d+ of it|no more than it|<td>\d+\.\d{3}</td>|\b(runs|data)[-/\w]*-[0-9a-f]{16}"
)


def executed(path: Path) -> Any:
    """The notebook with the outputs of today. Raises nbclient's CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        packages = Path(folder) / "packages"
        packages.mkdir()
        (packages / "probe_or_tune").symlink_to(HERE.parent / "pipeline")  # this checkout, under its installed name
        work = Path(folder) / "work"
        work.mkdir()
        environment = os.environ | {
            "PYTHONPATH": str(packages),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            "PYTHONWARNINGS": "ignore",
            "COLUMNS": "120",
        }
        client = NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(work)}}
        )
        client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(tidied, cell.outputs) if output is not None]
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": LANGUAGE}
    return notebook


def tidied(output: Any) -> Any:
    """An output as it is stored; None for bars that are gone."""
    if output.output_type == "display_data" and not "".join(output.data.values()):
        return None
    return output


def comparable(notebook: Any) -> list[str]:
    """What each code cell prints, without what another run or machine changes."""
    shown = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
            parts += [output.get("data", {}).get("text/html", "") for output in cell.outputs]
            shown.append(TIMED.sub("…", "\n".join(parts)))
    return shown


if __name__ == "__main__":
    for path in [HERE / name for name in sys.argv[1:]] or NOTEBOOKS:
        nbformat.write(executed(path), path)
        print(path.name)
