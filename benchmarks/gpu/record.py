"""What a step has found: a file that is whole at any time."""

import json
from pathlib import Path
from typing import Any

from keras_free_adv import files


class Record:
    """The findings of a step, each on the disk as soon as it is there.

    Args:
        path: a JSON file; what it holds already is kept.
        settings: what the findings depend on.

    Raises:
        ValueError: the file holds findings of other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path = path
        self._content: dict[str, Any] = {"settings": settings, "ended": False}
        self._content["found"] = {}
        if path.exists():
            content = json.loads(path.read_text())
            if content["settings"] != settings:
                raise ValueError(
                    f"{path} was found with other settings: {content['settings']}, and "
                    f"now {settings}. Give another --output, or remove the file."
                )
            self._content = content

    def __contains__(self, name: str) -> bool:
        return name in self._content["found"]

    def __getitem__(self, name: str) -> Any:
        return self._content["found"][name]

    def put(self, name: str, value: Any) -> None:
        """Keeps a finding."""
        self._content["found"][name] = value
        self._write()

    @property
    def found(self) -> dict[str, Any]:
        """All findings."""
        return self._content["found"]

    @property
    def ended(self) -> bool:
        """Whether the step went to its end."""
        return self._content["ended"]

    @property
    def stopped_by(self) -> str | None:
        """Why it did not go to its end the last time."""
        return self._content.get("stopped_by")

    def end(self, stopped_by: str | None = None) -> None:
        """The step has ended: well, or for a reason that is kept."""
        self._content["ended"] = stopped_by is None
        self._content["stopped_by"] = stopped_by
        self._write()

    def _write(self) -> None:
        files.write_text(self._path, json.dumps(self._content, indent=1))
