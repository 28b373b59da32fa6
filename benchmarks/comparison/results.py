"""Results on disk, each as soon as it is there."""

import json
from pathlib import Path
from typing import Any

from keras_free_adv import files

OURS = "keras_free_adv"


class Results:
    """A JSON file that is whole at any time.

    Args:
        path: the file; what it holds already is kept.
        settings: what the results depend on.

    Raises:
        ValueError: the file holds results of other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path = path
        self._content: dict[str, Any] = {"settings": settings, "rows": {}, "speed": {}}
        if path.exists():
            content = json.loads(path.read_text())
            before = content["settings"]
            changed = [k for k in settings if settings[k] != before.get(k)]
            if changed:
                raise ValueError(
                    f"{path} holds results of other settings: "
                    + ", ".join(f"{k}={before.get(k)!r}" for k in changed)
                    + ". Give another --output, or remove the file."
                )
            self._content = content

    def get(self, part: str, row: str, side: str) -> dict[str, Any] | None:
        """A result of the part "rows" or "speed", or None."""
        return self._content[part].get(row, {}).get(side)

    def put(self, part: str, row: str, side: str, result: dict[str, Any]) -> None:
        """Stores a result."""
        self._content[part].setdefault(row, {})[side] = result
        files.write_text(self._path, json.dumps(self._content, indent=1))

    def all(self, part: str) -> dict[str, dict[str, Any]]:
        """Row to side to result."""
        return self._content[part]

    def note(self, key: str, value: Any) -> None:
        """Stores a remark beside the settings."""
        self._content[key] = value
        files.write_text(self._path, json.dumps(self._content, indent=1))
