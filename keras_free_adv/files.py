"""Files that are whole or absent: written beside, then renamed."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path to write to; on success it becomes `path`, else it is removed.

    The name keeps the ending of `path`, for writers that look at it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        beside = folder / path.name
        yield beside
        _to_disk(beside)
        os.replace(beside, path)
        _to_disk(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def folder_written_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a folder to fill; on success it becomes `path`, which must not exist."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield folder
        for file in folder.iterdir():
            _to_disk(file)
        _to_disk(folder)
        os.rename(folder, path)
        _to_disk(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
