"""Makes the students' copy of the exercises: the tutorial without its solutions.

    python examples/student_version.py

Cells with the tag `lecturer` are left out, and so are the lines between `### BEGIN
SOLUTION` and `### END SOLUTION`, in whose place an error says that the exercise is not
written yet. Run it after a change of the tutorial.
"""

import re
from pathlib import Path

from absl import app, flags

from keras_free_adv import files

_TUTORIALS = Path(__file__).parent.parent / "docs" / "tutorials"

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "tutorial",
    str(_TUTORIALS / "6_teaching_kit.py"),
    "The lecturer's copy, in jupytext's percent format.",
)
flags.DEFINE_string(
    "output", str(_TUTORIALS / "exercises" / "exercises.py"), "The students' copy."
)

_CELL = re.compile(r"^(?=# %%)", re.M)
_SOLUTION = re.compile(
    r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION\n", re.M | re.S
)
_BLANK = r"\1# Your code here.\n\1raise NotWrittenYetError\n"


def without_solutions(text: str) -> tuple[str, int]:
    """The students' copy of a tutorial in the percent format, and its exercises."""
    cells = [cell for cell in _CELL.split(text) if cell.strip()]
    kept = [cell for cell in cells if '"lecturer"' not in cell.partition("\n")[0]]
    blank, exercises = _SOLUTION.subn(_BLANK, "".join(kept))
    left = re.search(r"BEGIN SOLUTION|END SOLUTION", blank)
    if left:
        line = blank[: left.start()].count("\n") + 1
        raise app.UsageError(
            f"--tutorial: {left[0]} without its other half, in line {line} of what "
            "would be handed out."
        )
    return blank, exercises


def main(argv: list[str]) -> None:
    """Writes it."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. See --help.")
    path = Path(FLAGS.tutorial)
    if not path.is_file():
        raise app.UsageError(f"--tutorial: there is no {path}.")
    copy, exercises = without_solutions(path.read_text(encoding="utf-8"))
    files.write_text(FLAGS.output, copy)
    print(f"{exercises} exercises in {FLAGS.output}")


if __name__ == "__main__":
    app.run(main)
