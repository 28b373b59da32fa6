from pathlib import Path

import pytest

from tests import forked
from tests.conftest import said_by

ROOT = Path(__file__).parent.parent.parent
PROGRAM = ROOT / "examples/student_version.py"
COPY = ROOT / "docs/tutorials/exercises/exercises.py"


def student_version(folder, text):
    """The students' copy of a text, or what was said instead."""
    tutorial, output = folder / "tutorial.py", folder / "students.py"
    tutorial.write_text(text)
    flags = [f"--tutorial={tutorial}", f"--output={output}"]
    process = forked.python(PROGRAM, *flags)
    if process.returncode:
        return process.stdout + process.stderr
    return output.read_text()


def test_the_students_copy_is_that_of_the_tutorial(tmp_path):
    tutorial = (ROOT / "docs/tutorials/6_teaching_kit.py").read_text()
    assert student_version(tmp_path, tutorial) == COPY.read_text()


def test_it_shows_neither_solutions_nor_what_is_for_lecturers():
    text = COPY.read_text()
    assert "SOLUTION" not in text
    assert "lecturer" not in text
    assert text.count("    raise NotWrittenYetError\n") == 6
    # Of each exercise, what gives the solution away.
    for giveaway in ("np.sign(", "np.clip(", "GradientTape", "range(replays)", "BPDA"):
        assert giveaway not in text, giveaway


@pytest.mark.tensorflow_only  # two of the six are written with tf.GradientTape
def test_it_runs_blank_and_says_of_each_that_it_is_not_written_yet():
    text = COPY.read_text().replace("EPOCHS = 30", "EPOCHS = 2")
    said = said_by(text)
    assert said.count("This exercise is not written yet") == 6
    assert "under your PGD" not in said
    assert said.endswith("0 of 6 are right.\n")


def test_a_mark_without_its_other_half_is_refused(tmp_path):
    text = "# %%\ndef f():\n    ### BEGIN SOLUTION\n    return 1\n"
    assert "BEGIN SOLUTION without its other half, in line 3" in student_version(
        tmp_path, text
    )


@pytest.mark.parametrize("flag", ["--tutorial=nowhere.py", "another"])
def test_a_wrong_argument_is_a_usage_error(flag):
    process = forked.python(PROGRAM, flag)
    assert process.returncode
    said = process.stdout + process.stderr
    assert flag.removeprefix("--tutorial=") in said
    assert "Traceback" not in said
