"""Files that are whole or absent: written beside, then renamed."""

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

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


# In the names of folders that writers work in; no user's folder is called so.
_BEING_WRITTEN = ".being-written-"
# In each of these folders, the file that its writer keeps locked.
_LOCK = ".being-written.lock"
# Not `sys.platform`, after which mypy takes one of the branches for dead code.
_WINDOWS = os.name == "nt"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path to write to; on success it becomes `path`, else it is removed.

    The name keeps the ending of `path`, for writers that look at it. Of a link, the
    file that it leads to is written.

    Raises:
        OSError: it cannot be written; the message says why, and what was there before
            is untouched.
    """
    path = Path(path)
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    with _explained(path), _room_beside(path) as room:
        beside = room / path.name
        yield beside
        _to_disk(beside)
        os.replace(beside, path)
        _name_to_disk(path)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a folder to fill; on success it becomes `path`, which must not exist.

    Raises:
        OSError: it cannot be written; the message says why, and nothing is left.
    """
    path = Path(path)
    with _explained(path), _room_beside(path) as room:
        beside = room / path.name
        beside.mkdir()
        yield beside
        _all_to_disk(beside)
        os.rename(beside, path)
        _name_to_disk(path)


def write_version(
    parent: str | os.PathLike,
    write: Callable[[Path], None],
    version: int | None = None,
) -> Path:
    """Writes a folder that becomes `parent/<version>` when it is whole.

    Args:
        parent: the folder of all versions.
        write: fills the folder that it is given; called once.
        version: None for the one after the latest. Of several writers at once each
            gets a version of its own.

    Returns:
        The path of the new version.

    Raises:
        OSError: it cannot be written, or the version is there; nothing is left.
    """
    parent = Path(parent)
    with _explained(parent), _room_beside(parent / "version") as room:
        beside = room / "version"
        beside.mkdir()
        write(beside)
        _all_to_disk(beside)
        path = _renamed_to_version(beside, parent, version)
        _name_to_disk(path)
    return path


def _renamed_to_version(beside: Path, parent: Path, version: int | None) -> Path:
    while True:
        path = parent / str(version or latest_version(parent) + 1)
        try:
            os.rename(beside, path)
        except OSError as error:
            taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
            if version is not None and taken:
                raise FileExistsError(
                    f"Version {version} of {str(parent)!r} was made by somebody else "
                    "in the meantime, and is left as it is. Pass None for the one "
                    "after the latest."
                ) from error
            if not taken:
                raise
        else:
            return path


def latest_version(parent: str | os.PathLike) -> int:
    """The largest number that is the name of something in a folder, or 0."""
    try:
        names = [path.name for path in Path(parent).iterdir()]
    except FileNotFoundError:
        names = []
    return max((int(n) for n in names if n.isascii() and n.isdigit()), default=0)


def remove_folder(path: str | os.PathLike) -> None:
    """Removes a folder that is whole at every moment, until it is gone."""
    path = Path(path)
    with _room_beside(path) as room:
        os.rename(path, room / path.name)


def check_room(path: str | os.PathLike) -> None:
    """Raises if `path` could not be written beside.

    Raises:
        OSError: it could not; the message says why.
    """
    path = Path(path)
    with _explained(path), _room_beside(path):
        pass


def discard_leftovers(path: str | os.PathLike) -> None:
    """Removes what killed writers of `path` left beside it.

    What belongs to a writer that is still alive is left alone. The name may have
    wildcards.
    """
    path = Path(path)
    for left in path.parent.glob(f".{path.name}{_BEING_WRITTEN}????????"):
        with contextlib.suppress(OSError, NotImplementedError):
            with _locked(left, wait=False):
                shutil.rmtree(left, ignore_errors=True)
            _remove_if_empty(left)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with atomic_write(path) as beside:
        beside.write_text(text, encoding="utf-8")


def checksum(path: str | os.PathLike) -> str:
    """What tells a file from a damaged one."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


@contextlib.contextmanager
def _room_beside(path: Path) -> Iterator[Path]:
    """A folder on the same disk, with what is in it removed in the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    discard_leftovers(path.with_name(glob.escape(path.name)))
    while True:
        prefix = f".{path.name}{_BEING_WRITTEN}"
        room = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
        with contextlib.ExitStack() as lock:
            # Without locks, nobody can take it for a leftover either.
            with contextlib.suppress(OSError, NotImplementedError):
                lock.enter_context(_locked(room, wait=True))
            if not room.exists():
                continue  # taken for one, before it was locked
            try:
                yield room
            finally:
                shutil.rmtree(room, ignore_errors=True)
                lock.close()
                _remove_if_empty(room)
            return


def _locked(folder: Path, *, wait: bool) -> filelock.BaseFileLock:
    """A lock on a folder, which ends with the process, however that ends.

    Entering it raises OSError if somebody has the lock, or NotImplementedError or
    OSError if there are no locks here.
    """
    return filelock.FileLock(folder / _LOCK, timeout=-1 if wait else 0)


def _remove_if_empty(folder: Path) -> None:
    # Windows keeps a locked file, and so its folder, until the lock is released. By
    # then another writer may have the folder, which is not empty then.
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        if error.errno is None:
            raise  # it says all itself
        raise _explanation(path, error) from error
    except OSError as error:
        raise _explanation(path, error) from error


def _explanation(path: Path, error: OSError) -> OSError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    message = (
        f"{str(path)!r} could not be written: {reason}. What was there before is "
        f"untouched. {_REMEDIES.get(error.errno or 0, '')}"
    ).rstrip()
    return OSError(message) if error.errno is None else OSError(error.errno, message)


def _all_to_disk(folder: Path) -> None:
    for inside in folder.rglob("*"):
        _to_disk(inside)
    _to_disk(folder)


def _name_to_disk(path: Path) -> None:
    # It is there, whole, under its name: when the name is on the disk too is the file
    # system's affair, and some have no way to ask.
    with contextlib.suppress(OSError):
        _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    if _WINDOWS and path.is_dir():
        return  # it cannot be opened there
    # Windows flushes only what is open for writing.
    descriptor = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
