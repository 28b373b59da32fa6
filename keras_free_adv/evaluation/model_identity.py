"""Checksums that identify a model, the same in every process."""

import hashlib
import json
import warnings
from typing import Any

import keras
import numpy as np

from keras_free_adv import renamed_arguments
from keras_free_adv.attacks.loss_scale import compute_dtypes

# Parts of a model's configuration that do not change what it computes: how it is
# trained, the shapes it was built for, and numbers of shared objects.
_IRRELEVANT = ("compile_config", "build_config", "shared_object_id")

# An evaluation that the first release began can be finished: in the checksum the
# arguments have the names that they had then.
_FIRST_NAMES = {new: old for old, new in renamed_arguments.TRAINING.items()}


def weights_checksum(model: keras.Model) -> str:
    """The checksum of all weights, in their order."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()[:16]


def identity_of(model: keras.Model) -> dict[str, Any]:
    """The checksums of weights and architecture, and the dtypes, as plain values.

    The architecture is None for a model that Keras cannot serialize.
    """
    return {
        "weights": weights_checksum(model),
        "architecture": _architecture_checksum(model),
        "dtypes": [model.dtype_policy.name, *sorted(set(compute_dtypes(model)))],
    }


def _architecture_checksum(model: keras.Model) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = json.loads(model.to_json())
    except Exception:  # a user's `get_config` may be missing, or raise anything
        return None
    return config_checksum(config)


def config_checksum(config: dict[str, Any]) -> str:
    """Of a model's configuration, as JSON holds it."""
    names: dict[str, str] = {}
    _number_names(config, names)
    relevant = json.dumps(_relevant(config, names), sort_keys=True)
    return hashlib.sha256(relevant.encode()).hexdigest()[:16]


def _number_names(config: Any, names: dict[str, str]) -> None:
    """Numbers the layers in `names`; in "dense_1" Keras counts other models' too."""
    if isinstance(config, dict):
        if isinstance(config.get("name"), str):
            names.setdefault(config["name"], f"#{len(names)}")
        for value in config.values():
            _number_names(value, names)
    elif isinstance(config, list):
        for value in config:
            _number_names(value, names)


def _relevant(config: Any, names: dict[str, str]) -> Any:
    """The configuration without its irrelevant parts, and with numbered layers."""
    if isinstance(config, dict):
        return {
            _FIRST_NAMES.get(key, key): names.get(value, value)
            if key == "name" and isinstance(value, str)
            else _relevant(value, names)
            for key, value in config.items()
            if key not in _IRRELEVANT
        }
    if _is_layer_output(config):
        return [names.get(config[0], config[0]), *config[1:]]
    if isinstance(config, list):
        return [_relevant(value, names) for value in config]
    return config


def _is_layer_output(config: Any) -> bool:
    """Whether it is [name of the layer, index of the call, index of the output]."""
    return (
        isinstance(config, list)
        and len(config) == 3
        and isinstance(config[0], str)
        and all(isinstance(number, int) for number in config[1:])
    )
