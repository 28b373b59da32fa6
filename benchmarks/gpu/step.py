"""What a step of on_gpu.py is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpu.record import Record
from gpu.sizes import Sizes


class Missing(Exception):
    """What a step needs is not on this machine; it is left out, with the reason."""


@dataclass(frozen=True)
class Place:
    """Where a step finds and leaves things.

    Attributes:
        data: a name that `datasets.load` takes.
        data_dir: where TFDS keeps it, or None.
        folder: of the output.
        peers_python: Python that has PyTorch.
    """

    data: str
    data_dir: str | None
    folder: Path
    peers_python: str


@dataclass(frozen=True)
class Step:
    """A step.

    Attributes:
        title: its heading on the page.
        run: does it, and keeps what it finds in the record.
        page: the lines, in Markdown, that tell what was found so far.
    """

    title: str
    run: Callable[[Sizes, Place, Record], None]
    page: Callable[[Record], list[str]]


def table(rows: list[list[str]]) -> list[str]:
    """A table in Markdown; the first row is its head."""
    head, *rest = [f"| {' | '.join(row)} |" for row in rows]
    return [head, "|" + "---|" * len(rows[0]), *rest]
