"""Runs the program, in this process: it takes long to import TensorFlow."""

import contextlib
import io
import sys
import warnings

from keras_free_adv.command_line.main import main


def typed(*words):
    """What is printed; the command must end well."""
    status, said, error = ended(*words)
    assert status == 0, error
    return said


def fails(*words):
    """The error that is printed, with status 1."""
    status, _, error = ended(*words)
    assert status == 1
    assert error.startswith("Error: ")
    assert "Traceback" not in error
    return error


def ended(*words):
    """The status, and what was printed to standard output and error."""
    said, error = io.StringIO(), io.StringIO()
    # A user sees warnings; and the program shows them in its own way.
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(error),
    ):
        warnings.simplefilter("default")
        try:
            main(list(map(str, words)))
        except SystemExit as ended_with:
            return ended_with.code, said.getvalue(), error.getvalue()
    return 0, said.getvalue(), error.getvalue()


def command(*words):
    """The command for a process of its own."""
    return [sys.executable, "-m", "keras_free_adv", *map(str, words)]
