"""Which results of two robustness reports can be compared."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_free_adv.predictions import CLASS

if TYPE_CHECKING:
    from keras_free_adv.evaluation.robustness_report import RobustnessReport

# Settings in which the same attack may differ from model to model: its name, its random
# numbers, and how the logits are found.
_MAY_DIFFER = ("name", "seed", "logits", "from_logits", "predicts")


def paired_results(
    one: "RobustnessReport", other: "RobustnessReport", name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Which examples each model gets right under the attack `name`: `[N]`, bool, twice.

    Raises:
        ValueError: a report lacks `name`, or they are of different examples or
            attacks.
    """
    for report in (one, other):
        if name not in report.robust:
            raise ValueError(
                "Argument `name` must be in both reports. Received: "
                f"name={name!r}; one has {list(report.robust)}."
            )
    data, other_data = (r.settings.get("data", {}) for r in (one, other))
    if data.get("checksum") != other_data.get("checksum"):
        raise ValueError(
            "Argument `other` must be a report on the same examples. Received: "
            "one on other data. Evaluate both models on the same."
        )
    mine, its = _threat_model(one, name), _threat_model(other, name)
    different = [key for key in mine | its if mine.get(key) != its.get(key)]
    if different:
        here, there = (
            ", ".join(f"{key}={settings.get(key)!r}" for key in different)
            for settings in (mine, its)
        )
        raise ValueError(
            f"Argument `other` must be a report on the same attack. Received: {name!r} "
            f"with {here} in this report and {there} in the other. Evaluate both "
            "models under the same attack."
        )
    return one.robust[name], other.robust[name]


def _threat_model(report: "RobustnessReport", name: str) -> dict[str, Any]:
    """The settings that both attacks must have, as JSON holds them."""
    # Reports of the first release do not say that each example has one class.
    settings = {"kind": CLASS, **report.threat_models.get(name, {})}
    return _required(json.loads(json.dumps(settings)))


def _required(settings: Any) -> Any:
    """An attack's settings, and those of its parts, without those that may differ."""
    if isinstance(settings, dict):
        return {
            name: _required(value)
            for name, value in settings.items()
            if name not in _MAY_DIFFER
        }
    if isinstance(settings, list):
        return [_required(value) for value in settings]
    return settings
