"""Files that are whole or absent: written beside, then renamed."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_REMEDIES = {
    errno.ENOSPC: "Free some space, or write to another disk.",
    errno.EDQUOT: "Free some space, or write to another disk.",
    errno.EFBIG: "Raise the limit on the size of files, or write to another disk.",
    errno.EACCES: "Write to a folder that is yours.",
    errno.EPERM: "Write to a folder that is yours.",
    errno.EROFS: "Write to a folder that is yours.",
    errno.ENOTDIR: "A part of the path is a file: remove it, or give another path.",
    errno.EEXIST: "There is something else of this name: remove it, or give another.",
    errno.EISDIR: "It is a folder: remove it, or give another path.",
    errno.ENOTEMPTY: "It is a folder: remove it, or give another path.",
}


@contextlib.contextmanager
def written_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path to write to; on success it becomes `path`, else it is removed.

    The name keeps the ending of `path`, for writers that look at it.

    Raises:
        OSError: it cannot be written; the message says why, and what was there before
            is untouched.
    """
    path = Path(path)
    with _explained(path), _room_beside(path) as room:
        beside = room / path.name
        yield beside
        _to_disk(beside)
        os.replace(beside, path)
        _to_disk(path.parent)


@contextlib.contextmanager
def folder_written_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a folder to fill; on success it becomes `path`, which must not exist.

    Raises:
        OSError: it cannot be written; the message says why, and nothing is left.
    """
    path = Path(path)
    with _explained(path), _room_beside(path) as room:
        beside = room / path.name
        beside.mkdir()
        yield beside
        for inside in beside.rglob("*"):
            _to_disk(inside)
        _to_disk(beside)
        os.rename(beside, path)
        _to_disk(path.parent)


def remove_folder(path: str | os.PathLike) -> None:
    """Removes a folder that is whole at every moment, until it is gone."""
    path = Path(path)
    with _room_beside(path) as room:
        os.rename(path, room / path.name)


def discard_leftovers(path: str | os.PathLike) -> None:
    """Removes what killed writers of `path` left beside it.

    To be called when nobody else writes to it. The name may have wildcards.
    """
    path = Path(path)
    for left in path.parent.glob(f".{path.name}-????????"):
        shutil.rmtree(left, ignore_errors=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def checksum(path: str | os.PathLike) -> str:
    """What tells a file from a damaged one."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


@contextlib.contextmanager
def _room_beside(path: Path) -> Iterator[Path]:
    """A folder on the same disk, with what is in it removed in the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        message = (
            f"{str(path)!r} could not be written: {reason}. What was there before is "
            f"untouched. {_REMEDIES.get(error.errno or 0, '')}"
        ).rstrip()
        if error.errno is None:
            raise OSError(message) from error
        raise OSError(error.errno, message) from error


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
