"""What the program shows while the libraries below it start."""

import io

import pytest

from keras_free_adv.command_line import console


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_that_keras_starts_and_then_no_more(monkeypatch, terminal):
    class Errors(io.StringIO):
        def isatty(self):
            return terminal

    written = Errors()
    monkeypatch.setattr("sys.stderr", written)
    monkeypatch.setattr("warnings.showwarning", None)
    console.be_quiet()
    begin, *rest = written.getvalue().split("\r")
    assert begin == ("Starting Keras ..." if terminal else "")
    # Blanks over it, and the cursor where it was.
    assert rest == ([" " * len(begin), ""] if terminal else [])
