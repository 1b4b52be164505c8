"""Run the notebooks and keep their outputs: ``python notebooks/render.py [NAME ...]``.

``NAME.py`` (jupytext's percent format) is what is written; ``NAME.ipynb`` is made from it here,
with what its cells print and draw, but for what differs from run to run and says nothing: progress
bars and warnings (stderr), times, ids, the version of the kernel. Needs the extra
``leepjax[notebooks]``.
"""

import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def render(script: Path) -> None:
    """Write the notebook beside a script, with its outputs."""
    notebook = jupytext.read(script)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(HERE)}}).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for i, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{i}", {}
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    nbformat.write(notebook, script.with_suffix(".ipynb"))


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in HERE.glob("[0-9]*.py")):
        render(HERE / f"{Path(name).stem}.py")
        print(name)
