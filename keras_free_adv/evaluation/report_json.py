"""The JSON format of robustness reports."""

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from keras_free_adv.evaluation.predicted_classes import PredictedClasses

if TYPE_CHECKING:
    from keras_free_adv.evaluation.robustness_report import RobustnessReport

SCHEMA_VERSION = 2
Report = TypeVar("Report")


def plain_values(report: "RobustnessReport") -> dict[str, Any]:
    """A report as plain Python values that JSON can hold."""
    values = {
        "schema_version": SCHEMA_VERSION,
        "examples": report.examples,
        **dataclasses.asdict(dataclasses.replace(report, predicted=None)),
        "intervals": {name: list(ends) for name, ends in report.intervals.items()},
        "robust": {name: array.tolist() for name, array in report.robust.items()},
    }
    if not report.label_accuracy:
        del values["label_accuracy"]
    if report.predicted is None:
        del values["predicted"]
    else:
        values["predicted"] = report.predicted.to_dict()
    return values


def read_report(text: str, make: Callable[..., Report]) -> Report:
    """Reads `plain_values` from JSON, and passes the fields of a report to `make`.

    Raises:
        ValueError: the text is no report, or of another schema version.
    """
    try:
        fields = json.loads(text)
        version = fields.pop("schema_version")
        if version == SCHEMA_VERSION:
            for derived in ("examples", "intervals"):
                fields.pop(derived, None)
            robust = {
                name: np.array(stands, bool)
                for name, stands in fields["robust"].items()
            }
            if "natural" not in robust or fields["accuracy"].keys() != robust.keys():
                raise KeyError("natural")
            if "predicted" in fields:
                fields["predicted"] = PredictedClasses.from_dict(fields["predicted"])
            return make(**{"seconds": {}, **fields, "robust": robust})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            "Argument `text` must be a report as `to_json` writes it. Received: "
            f"{str(text)[:40]!r}... ({type(error).__name__}: {error})."
        ) from error
    raise ValueError(
        f"Argument `text` must be a report of schema version {SCHEMA_VERSION}. "
        f"Received: version {version!r}. Read it with the release that wrote it."
    )
