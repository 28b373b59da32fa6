"""What distinguishes the backups of one training from those of another."""

import json
import re
from typing import Any

import keras

from keras_free_adv.callbacks.unsaved_variables import states_of
from keras_free_adv.random_numbers import GENERATOR
from keras_free_adv.training.adversarial_model import AdversarialModel
from keras_free_adv.training.crafting_model import CraftingModel

# Settings of an adversarial model that do not change how it is trained.
_IRRELEVANT = ("name", "trainable", "dtype", "model")


def training_identity(model: keras.Model) -> dict[str, Any]:
    """The classes, settings and shapes that a backup must share with the model."""
    optimizer = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", None)  # of a LossScaleOptimizer
    optimizers = [type(one).__name__ for one in (optimizer, inner) if one]
    config = model.get_config() if isinstance(model, AdversarialModel) else {}
    settings = {n: v for n, v in config.items() if n not in _IRRELEVANT}
    return {
        "class": type(model).__name__,
        "settings": json.loads(json.dumps(settings)),
        "optimizer": " of ".join(optimizers),
        "shapes of weights": [list(weight.shape) for weight in model.weights],
        "states": names_and_shapes(states_of(model)),
        "random starts": GENERATOR if isinstance(model, CraftingModel) else "none",
    }


def with_defaults(identity: dict[str, Any], model: keras.Model) -> dict[str, Any]:
    """The identity in a backup; those of the first release had another generator."""
    crafts = isinstance(model, CraftingModel)
    return {"random starts": "splitmix64" if crafts else "none", **identity}


def names_and_shapes(variables: list[Any]) -> list[list[Any]]:
    """Those of each variable, without the numbers that make Keras' names unique."""
    return [
        [re.sub(r"_\d+(?=/|$)", "", variable.path), list(variable.shape)]
        for variable in variables
    ]
