"""Backups of a training: folders, each of which is complete or absent."""

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
    """A backup as it was read; its checksums were right.

    Attributes:
        weights: the file for `load_weights`.
        metadata: as passed to `Backups.write`.
        arrays: arrays by name.
    """

    weights: Path
    metadata: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Backups:
    """The backups of one training: `backup-1`, `backup-2` and so on, in a folder.

    Usually there is one: the previous one is removed when the new one is on the disk.

    Args:
        folder: the folder that holds them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def latest(self) -> int:
        """The number of the last backup; 0 if there is none."""
        return max(self._numbers(), default=0)

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the last backup.

        Raises:
            ValueError: it is damaged, or of another release's format.
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
        """Yields a path for the weights' file; on exit the backup is complete.

        It is written to a temporary folder, then renamed.

        Raises:
            OSError: it cannot be written; the previous backup is unchanged.
        """
        previous = self._numbers()
        with files.atomic_folder(self._path(self.latest + 1)) as folder:
            yield folder / WEIGHTS
            # NumPy's files do not keep the name of a dtype such as bfloat16.
            foreign = {n: a for n, a in arrays.items() if a.dtype.kind == "V"}
            bits = {n: a.view(f"u{a.itemsize}") for n, a in foreign.items()}
            np.savez(folder / ARRAYS, **{**arrays, **bits})  # type: ignore[arg-type]
            checksums = {n: files.checksum(folder / n) for n in (WEIGHTS, ARRAYS)}
            backup = {
                **metadata,
                "checksums": checksums,
                "dtypes": {n: a.dtype.name for n, a in foreign.items()},
            }
            stored = {
                "schema_version": SCHEMA_VERSION,
                "checksum": _checksum(backup),
                "backup": backup,
            }
            (folder / METADATA).write_text(json.dumps(stored))
        self._remove(previous)

    def delete(self) -> None:
        """Removes all of them, the last one last, and the folder if it is empty."""
        self._remove(self._numbers())
        files.discard_leftovers(self._path("*"))
        with contextlib.suppress(OSError):  # it is not there, or not empty
            self.folder.rmdir()

    def prepare(self) -> None:
        """Removes the temporary folders of a killed run, and tries to write.

        Raises:
            OSError: no backup can be written here.
        """
        files.discard_leftovers(self._path("*"))
        files.check_room(self._path("*"))

    def _path(self, number: int | str) -> Path:
        return self.folder / f"backup-{number}"

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(name.group(1)) for name in found if name)

    def _remove(self, numbers: list[int]) -> None:
        for number in numbers:
            with contextlib.suppress(OSError):  # the next call tries again
                files.remove_folder(self._path(number))

    def _damaged(self, reason: str) -> ValueError:
        return ValueError(
            f"Argument `backup_dir`: the backup {str(self._path(self.latest))!r} is "
            f"damaged: {reason}. Put a copy of it back, or remove the folder to start "
            "anew."
        )


def _checksum(metadata: Any) -> str:
    text = json.dumps(metadata, sort_keys=True)
    return hashlib.blake2b(text.encode()).hexdigest()


@contextlib.contextmanager
def discarded() -> Iterator[Path]:
    """Yields a path as `Backups.write` does, for a worker whose file is discarded."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / WEIGHTS
