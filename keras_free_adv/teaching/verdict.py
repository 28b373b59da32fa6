"""What a check found."""

import textwrap
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from keras_free_adv.teaching.not_written_yet import NotWrittenYetError

_PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Verdict:
    """What a check found; `print` it.

    Attributes:
        name: of what was checked.
        findings: what is wrong, a sentence or two each; empty if nothing is.

    Example:
    >>> print(Verdict("fgsm", ("It goes downhill.",)))
    fgsm: not yet
      - It goes downhill.
    >>> print(Verdict("fgsm", ()))
    fgsm: right
    """

    name: str
    findings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def __str__(self) -> str:
        if self.passed:
            return f"{self.name}: right"
        lines = [
            textwrap.fill(finding, 80, initial_indent="  - ", subsequent_indent=" " * 4)
            for finding in self.findings
        ]
        return "\n".join([f"{self.name}: not yet", *lines])


class FoundError(Exception):
    """Something so wrong that a check cannot go on."""


def verdict_on(name: str, look: Callable[[], Iterable[str]]) -> Verdict:
    """The verdict of a check that looks for what is wrong.

    What the student's code raises is a finding too, with the line at which it was: the
    checks after it are to run all the same.
    """
    findings: list[str] = []
    try:
        # One by one, so that what was found before it had to stop is kept.
        for finding in look():
            findings.append(finding)
    except (FoundError, NotWrittenYetError) as error:
        findings.append(str(error))
    except Exception as error:
        line = _line_of_the_student(error)
        if line is None:
            raise  # it is not the student's
        findings.append(f"It stops with {type(error).__name__}: {error} At {line}.")
    return Verdict(name, tuple(findings))


def _line_of_the_student(error: Exception) -> str | None:
    """Where in the student's code it was, or None."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename)
        if "site-packages" not in path.parts and _PACKAGE not in path.parents:
            return f"line {frame.lineno} of {frame.name}: {frame.line}"
    return None


def name_of(function: Callable, default: str) -> str:
    """What a student's function is called."""
    return str(getattr(function, "__name__", default))
