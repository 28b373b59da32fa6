"""The files that describe an artifact, in its `assets`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_free_adv import validation
from keras_free_adv.evaluation.model_identity import weights_checksum
from keras_free_adv.evaluation.robustness_report import RobustnessReport
from keras_free_adv.recipes import Recipe
from keras_free_adv.serving.signatures import ServedClassifier
from keras_free_adv.training.adversarial_model import AdversarialModel

SCHEMA_VERSION = 1
CLASS_NAMES, DESCRIPTION = "class_names.txt", "description.json"
RECIPE, REPORT = "recipe.json", "robustness_report.json"


def check_recipe(recipe: Any) -> dict[str, Any] | None:
    """Returns a recipe as plain data, or raises."""
    if isinstance(recipe, Recipe):
        return recipe.to_dict()
    if recipe is None:
        return None
    plain = dict(validation.mapping("recipe", recipe))
    try:
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "Argument `recipe` must be a Recipe, or a dict that JSON can hold: "
            f"{error}. Received: recipe={recipe!r}."
        ) from error
    return plain


def check_report(report: Any, served: ServedClassifier) -> RobustnessReport | None:
    """Returns a report, or raises if it is about another model or pixel range."""
    if report is None:
        return None
    if not isinstance(report, RobustnessReport):
        raise TypeError(
            "Argument `report` must be the result of `evaluate_robustness`, or of "
            "RobustnessReport.from_json(text). Received: "
            f"report of type {type(report).__name__}."
        )
    measured, ours = (
        report.settings.get("model_checksum"),
        weights_checksum(served.network),
    )
    if measured is not None and measured != ours:
        raise ValueError(
            "Argument `report` must be of the model that is exported. Received: a "
            f"report of weights {measured}, and a model of weights {ours}. Evaluate "
            "this model, or export the one that was evaluated."
        )
    for name, settings in report.threat_models.items():
        attacked = settings.get("value_range")
        if attacked is not None and tuple(attacked) != served.value_range:
            raise ValueError(
                "Argument `value_range` must be that of the report. Received: a report "
                f"whose {name} attacked pixels in {list(attacked)}, and an export for "
                f"pixels in {list(served.value_range)}. Pass value_range="
                f"{tuple(attacked)}, or the report of an attack on this range."
            )
    return report


def asset_files(
    served: ServedClassifier,
    model: keras.Model,
    recipe: dict[str, Any] | None,
    report: RobustnessReport | None,
    versions: dict[str, str],
) -> dict[str, str]:
    """Returns the names and texts of the files."""
    description = {
        "schema_version": SCHEMA_VERSION,
        "model": served.network.name,
        "model_checksum": weights_checksum(served.network),
        "classes": len(served.class_names),
        "input_shape": served.input_shape,
        "value_range": served.value_range,
        "image_size": served.image_size,
        "margin": served.margin,
        "training": _training(model, recipe),
        **versions,
    }
    texts = {
        CLASS_NAMES: "\n".join(served.class_names) + "\n",
        DESCRIPTION: json.dumps(description, indent=2),
    }
    if recipe is not None:
        texts[RECIPE] = json.dumps(recipe, indent=2)
    if report is not None:
        texts[REPORT] = report.to_json(indent=2)
    return texts


def as_assets(texts: Mapping[str, str], folder: Path) -> list[tf.saved_model.Asset]:
    """Writes the files to a folder, to be copied when the model is saved."""
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [tf.saved_model.Asset(str(folder / name)) for name in texts]


def _training(
    model: keras.Model, recipe: dict[str, Any] | None
) -> dict[str, Any] | None:
    """The adversarial training of the model, from its wrapper or its recipe."""
    if isinstance(model, AdversarialModel):
        network = ("name", "trainable", "dtype", "model")
        config = model.get_config().items()
        settings = {name: value for name, value in config if name not in network}
        return {"method": type(model).__name__, **settings}
    if recipe is None or not {"method", "epsilon", "norm"} <= set(recipe):
        return None
    settings = {name: recipe[name] for name in ("method", "epsilon", "norm")}
    return {**settings, **recipe.get("method_arguments", {})}
