"""Backups of a training, as folders: each is whole, or is not there."""

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_free_adv import files

WEIGHTS, ARRAYS, METADATA = "model.weights.h5", "arrays.npz", "metadata.json"
SCHEMA_VERSION = 2

_NAME = re.compile(r"backup-(\d+)")


@dataclass(frozen=True)
class Backup:
    """A backup that was read, and is not damaged.

    Attributes:
        weights: the file for `load_weights`.
        metadata: what was given to `Backups.write`.
        arrays: arrays by name.
    """

    weights: Path
    metadata: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Backups:
    """The backups of one training: `backup-1`, `backup-2` and so on, in a folder.

    There is one of them but for moments: the one before goes when the new one is on
    the disk.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def latest(self) -> int:
        """The number of the last backup; 0 if there is none."""
        return max(self._numbers(), default=0)

    @property
    def metadata(self) -> dict[str, Any]:
        """What was written with the last backup.

        Raises:
            ValueError: it is damaged.
        """
        path = self._path(self.latest) / METADATA
        try:
            stored = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise self._damaged(f"{METADATA} cannot be read: {error}") from error
        version = stored.get("schema_version") if isinstance(stored, dict) else None
        if isinstance(stored, dict) and version != SCHEMA_VERSION:
            raise ValueError(
                f"Argument `backup_dir`: {str(path.parent)!r} was written by another "
                f"release of keras_free_adv: its format is {version}, and this one "
                f"reads {SCHEMA_VERSION}. Go on with that release, or remove the "
                "folder to start anew."
            )
        if version is None or stored.get("checksum") != _checksum(stored.get("backup")):
            raise self._damaged(f"{METADATA} is not what was written")
        return stored["backup"]

    def read(self) -> Backup:
        """The last backup.

        Raises:
            ValueError: it is damaged.
        """
        folder, metadata = self._path(self.latest), self.metadata
        checksums = metadata.pop("checksums", {})
        for name in (WEIGHTS, ARRAYS):
            try:
                whole = files.checksum(folder / name) == checksums.get(name)
            except OSError as error:
                raise self._damaged(f"{name} cannot be read: {error}") from error
            if not whole:
                raise self._damaged(f"{name} is not what was written")
        dtypes = metadata.pop("dtypes", {})
        with np.load(folder / ARRAYS, allow_pickle=False) as stored:
            arrays = {n: a.view(dtypes.get(n, a.dtype)) for n, a in stored.items()}
        return Backup(folder / WEIGHTS, metadata, arrays)

    @contextlib.contextmanager
    def write(
        self, metadata: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> Iterator[Path]:
        """Gives the path to write the weights to; on success it is the last backup.

        Raises:
            OSError: the disk is full, say; the backup before is untouched.
        """
        before = self._numbers()
        with files.atomic_folder(self._path(self.latest + 1)) as folder:
            yield folder / WEIGHTS
            # Of bfloat16 NumPy's file would forget what it is.
            foreign = {n: a for n, a in arrays.items() if a.dtype.kind == "V"}
            bits = {n: a.view(f"u{a.itemsize}") for n, a in foreign.items()}
            np.savez(folder / ARRAYS, **{**arrays, **bits})  # type: ignore[arg-type]
            checksums = {n: files.checksum(folder / n) for n in (WEIGHTS, ARRAYS)}
            said = {
                **metadata,
                "checksums": checksums,
                "dtypes": {n: a.dtype.name for n, a in foreign.items()},
            }
            stored = {
                "schema_version": SCHEMA_VERSION,
                "checksum": _checksum(said),
                "backup": said,
            }
            (folder / METADATA).write_text(json.dumps(stored))
        self._remove(before)

    def delete(self) -> None:
        """Removes all of them, the last one last, and the folder if it is empty."""
        self._remove(self._numbers())
        self.discard_leftovers()
        with contextlib.suppress(OSError):  # it is not there, or not empty
            self.folder.rmdir()

    def prepare(self) -> None:
        """Makes room for the first backup.

        Raises:
            OSError: there can be none here.
        """
        self.discard_leftovers()
        files.check_room(self._path("*"))

    def discard_leftovers(self) -> None:
        """Removes what a kill left half written or half removed."""
        files.discard_leftovers(self._path("*"))

    def _path(self, number: int | str) -> Path:
        return self.folder / f"backup-{number}"

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(name.group(1)) for name in found if name)

    def _remove(self, numbers: list[int]) -> None:
        for number in numbers:
            with contextlib.suppress(OSError):  # it will go with the next one
                files.remove_folder(self._path(number))

    def _damaged(self, reason: str) -> ValueError:
        return ValueError(
            f"Argument `backup_dir`: the backup {str(self._path(self.latest))!r} is "
            f"damaged: {reason}. Put a copy of it back, or remove the folder to start "
            "anew."
        )


def _checksum(said: Any) -> str:
    text = json.dumps(said, sort_keys=True)
    return hashlib.blake2b(text.encode()).hexdigest()


@contextlib.contextmanager
def discarded() -> Iterator[Path]:
    """In place of `Backups.write`: a path for weights that nobody keeps."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / WEIGHTS
