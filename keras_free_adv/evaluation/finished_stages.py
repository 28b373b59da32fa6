"""The stages of an evaluation that are finished, in a file."""

import json
import pathlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_free_adv.files import write_text

SCHEMA_VERSION = 1


@dataclass
class Stage:
    """What one attack, or one part of an ensemble, left standing.

    Attributes:
        standing: whether each example still stands, `[N]`, bool.
        seconds: wall-clock seconds.
        forward: examples that went forward through the model, counted once a pass.
        backward: the same of backward passes.
    """

    standing: np.ndarray
    seconds: float
    forward: int
    backward: int


class FinishedStages:
    """Keeps finished stages, and finds them again after an interruption.

    Args:
        path: a JSON file, made with the first stage; None keeps nothing.
        model: what identifies the model's weights.
        data: what identifies the examples and their batches.

    Raises:
        ValueError: the file is damaged, or of another model or other data.
    """

    def __init__(self, path: Any, model: str, data: dict[str, Any]) -> None:
        self._path = None if path is None else pathlib.Path(path)
        self._header = {"schema_version": SCHEMA_VERSION, "model": model, "data": data}
        self._stages: dict[str, dict[str, Any]] = {}
        if self._path is not None and self._path.exists():
            self._stages = self._read()

    def find(self, settings: dict[str, Any]) -> Stage | None:
        """The finished stage of an attack with these settings, or None."""
        found = self._stages.get(_key(settings))
        if found is None:
            return None
        standing = np.array([bit == "1" for bit in found["standing"]])
        return Stage(**{**found, "standing": standing})

    def add(self, settings: dict[str, Any], stage: Stage) -> None:
        """Keeps a stage; the file is whole at every moment."""
        bits = "".join("1" if stands else "0" for stands in stage.standing)
        self._stages[_key(settings)] = {**asdict(stage), "standing": bits}
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, json.dumps({**self._header, "stages": self._stages}))

    def _read(self) -> dict[str, Any]:
        try:
            read = json.loads(self._path.read_text())  # type: ignore[union-attr]
            header = {name: read[name] for name in self._header}
            stages = read["stages"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"Argument `resume` names a file that is no interrupted evaluation: "
                f"{self._path} ({type(error).__name__}: {error}). Delete it, or pass "
                "another path."
            ) from error
        for part, mine in self._header.items():
            if header[part] != mine:
                raise ValueError(
                    f"Argument `resume` names an evaluation of another {part}: "
                    f"{self._path} has {header[part]!r}, now it is {mine!r}. Pass "
                    "another path, or delete the file to begin anew."
                )
        return stages


def _key(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
