"""What tells one model from another, also in the next process."""

import hashlib
import json
import warnings
from typing import Any

import keras
import numpy as np

from keras_free_adv.attacks.half_precision import compute_dtypes

# Of a model's configuration, what does not say what the model computes: how it is
# trained, for which batch it was built, and which objects appear twice.
_BESIDE_THE_POINT = ("compile_config", "build_config", "shared_object_id")


def weights_checksum(model: keras.Model) -> str:
    """Of all weights, in their order."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()[:16]


def identity_of(model: keras.Model) -> dict[str, Any]:
    """Checksums of weights and architecture, and the dtypes, as JSON holds them.

    The architecture is None for a model whose configuration Keras cannot write.
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
    except Exception:  # a user's `get_config` may raise anything, or be missing
        return None
    names: dict[str, str] = {}
    _number_names(config, names)
    essence = json.dumps(_essence(config, names), sort_keys=True)
    return hashlib.sha256(essence.encode()).hexdigest()[:16]


def _number_names(config: Any, names: dict[str, str]) -> None:
    """Gives each layer's name its number: the same program counts on, "dense_1"."""
    if isinstance(config, dict):
        if isinstance(config.get("name"), str):
            names.setdefault(config["name"], f"#{len(names)}")
        for value in config.values():
            _number_names(value, names)
    elif isinstance(config, list):
        for value in config:
            _number_names(value, names)


def _essence(config: Any, names: dict[str, str]) -> Any:
    """A configuration without what is beside the point, its layers numbered."""
    if isinstance(config, dict):
        return {
            key: names.get(value, value)
            if key == "name" and isinstance(value, str)
            else _essence(value, names)
            for key, value in config.items()
            if key not in _BESIDE_THE_POINT
        }
    if _is_tensor_of_a_layer(config):
        return [names.get(config[0], config[0]), *config[1:]]
    if isinstance(config, list):
        return [_essence(value, names) for value in config]
    return config


def _is_tensor_of_a_layer(config: Any) -> bool:
    """Whether it is [name of the layer, number of the call, number of the output]."""
    return (
        isinstance(config, list)
        and len(config) == 3
        and isinstance(config[0], str)
        and all(isinstance(number, int) for number in config[1:])
    )
