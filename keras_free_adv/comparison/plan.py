"""How many updates each method makes: decided once, and kept in a file."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_free_adv import files

FILE = "plan.json"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The updates of each method.

    Attributes:
        settings: what the comparison is of.
        update_seconds: of each method, how long an update took when it was timed.
        epoch_updates: of each method, the updates of an epoch.
    """

    settings: dict[str, Any]
    update_seconds: dict[str, float]
    epoch_updates: dict[str, int]

    def updates(self, method: str) -> int:
        """All updates of a method."""
        return self.epoch_updates[method] * self.settings["epochs"]

    def __str__(self) -> str:
        return "\n".join(
            f"{name}: {self.updates(name):,} updates of {1e3 * seconds:.3g} ms"
            for name, seconds in self.update_seconds.items()
        )


def planned(
    settings: dict[str, Any],
    update_seconds: Mapping[str, float],
    replays: Mapping[str, int],
) -> Plan:
    """The updates that fit in `seconds`, in whole epochs of whole minibatches.

    Args:
        settings: with "seconds" and "epochs".
        update_seconds: of each method.
        replays: of each method, how often a minibatch is used in a row.

    Raises:
        ValueError: not one update an epoch fits.
    """
    seconds, epochs = settings["seconds"], settings["epochs"]
    found = {}
    for name, each in update_seconds.items():
        minibatches = int(seconds / each / epochs / replays[name])
        if not minibatches:
            raise ValueError(
                f"Argument `seconds` must be enough for {epochs} epochs of {name!r}, "
                f"whose updates take {each:.3g} s. Received: seconds={seconds:g}. "
                f"Allow at least {math.ceil(10 * each * epochs * replays[name]) / 10:g}"
                ", or fewer `epochs`."
            )
        found[name] = minibatches * replays[name]
    return Plan(settings, dict(update_seconds), found)


def kept(folder: Path, settings: dict[str, Any]) -> Plan | None:
    """The plan in a folder, or None if there is none.

    Raises:
        ValueError: it is the plan of another comparison, or damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        plan = Plan(**json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Argument `folder`: {path} is damaged ({error}). Move {folder} away."
        ) from error
    now = json.loads(json.dumps(settings))
    changed = [key for key in now if plan.settings.get(key) != now[key]]
    if changed:
        listed = ", ".join(
            f"{key}={plan.settings.get(key)} (now {now[key]})" for key in changed
        )
        raise ValueError(
            f"Argument `folder`: {folder} holds another comparison: {listed}. Give the "
            "same arguments to go on with it, or another folder."
        )
    return plan


def keep(folder: Path, plan: Plan) -> None:
    """Writes the plan."""
    files.write_text(folder / FILE, json.dumps(dataclasses.asdict(plan), indent=2))
