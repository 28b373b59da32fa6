"""The verdict of a check."""

import textwrap
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Verdict:
    """The findings of a check; `print` it.

    Attributes:
        name: name of the checked function.
        findings: the mistakes, a sentence or two each; empty if there are none.

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
        """Whether there are no findings."""
        return not self.findings

    def __str__(self) -> str:
        if self.passed:
            return f"{self.name}: right"
        lines = [
            textwrap.fill(finding, 80, initial_indent="  - ", subsequent_indent=" " * 4)
            for finding in self.findings
        ]
        return "\n".join([f"{self.name}: not yet", *lines])


class NotWrittenYetError(Exception):
    """An exercise is still blank; a check reports it, and continues.

    Example:
    >>> try:
    ...     raise NotWrittenYetError
    ... except NotWrittenYetError as error:
    ...     print(error)
    This exercise is not written yet: put your code in place of the `raise`.
    """

    def __str__(self) -> str:
        return (
            "This exercise is not written yet: put your code in place of the `raise`."
        )


class FoundError(Exception):
    """A mistake after which a check cannot continue."""


def verdict_on(name: str, find: Callable[[], Iterable[str]]) -> Verdict:
    """Collects the findings of a check.

    An exception of the student's code is a finding too, with its line, so that the next
    checks still run.
    """
    findings: list[str] = []
    try:
        # One by one, to keep the findings before an exception.
        for finding in find():
            findings.append(finding)
    except (FoundError, NotWrittenYetError) as error:
        findings.append(str(error))
    except Exception as error:
        line = _student_line(error)
        if line is None:
            raise  # a mistake of the library
        findings.append(f"It stops with {type(error).__name__}: {error} At {line}.")
    return Verdict(name, tuple(findings))


def _student_line(error: Exception) -> str | None:
    """The line of the student's code that raised, or None."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename)
        if "site-packages" not in path.parts and _PACKAGE not in path.parents:
            return f"line {frame.lineno} of {frame.name}: {frame.line}"
    return None


def name_of(function: Callable, default: str) -> str:
    """The name of a student's function."""
    return str(getattr(function, "__name__", default))
