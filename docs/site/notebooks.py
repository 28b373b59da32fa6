"""Runs the tutorials, and writes each as a notebook beside it.

    python docs/site/notebooks.py                # all of them
    python docs/site/notebooks.py 2 3            # those of these numbers

The notebooks are what the site shows; `tests/test_site.py` says when one is older than
its Python file.
"""

import os
import re
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parent.parent / "tutorials"
# What TensorFlow and LiteRT tell of themselves, before anybody can stop it.
CHATTER = re.compile(
    r"^(WARNING: All log messages before|[IWE]\d{4} |"
    r"INFO: Created TensorFlow Lite|INFO:tensorflow:).*\n?",
    re.M,
)


def readable(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The outputs of a cell without chatter; what is printed in a row is one."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            output.text = CHATTER.sub("", output.text)
            if not output.text.strip():
                continue
            if kept and kept[-1].get("name") == output.name:
                kept[-1].text += output.text
                continue
        kept.append(output)
    return kept


def run(path: Path) -> Path:
    """Runs a tutorial from top to bottom; the notebook is written beside it."""
    notebook = jupytext.read(path)
    NotebookClient(notebook, timeout=1200, kernel_name="python3").execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # the same in each run
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags"}
        if cell.cell_type == "code":
            cell.outputs = readable(cell.outputs)
    notebook.metadata = {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }
    target = path.with_suffix(".ipynb")
    beside = target.with_suffix(".tmp")
    nbformat.write(notebook, beside)
    os.replace(beside, target)
    return target


def main(numbers: list[str]) -> None:
    """Runs the tutorials of these numbers, or all."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    for path in sorted(TUTORIALS.glob("[0-9]_*.py")):
        if not numbers or path.name[0] in numbers:
            print(f"Written: {run(path)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
