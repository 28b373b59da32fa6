"""A Keras classifier and examples, written so that PyTorch can read them."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_free_adv import files, zoo  # noqa: F401 (zoo has layers that models need)

# What `peers.twin` needs to know of a layer, beside its weights.
KEPT = (
    "activation",
    "epsilon",
    "kernel_size",
    "offset",
    "padding",
    "pool_size",
    "scale",
    "strides",
)


def float32_classifier(path: str) -> keras.Model:
    """The saved classifier, out of its wrapper if it has one, computing in float32."""
    model = keras.models.load_model(path, compile=False)
    inner = getattr(model, "model", None)
    model = inner if isinstance(inner, keras.Model) else model

    def in_float32(layer: keras.layers.Layer) -> keras.layers.Layer:
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    clone = keras.models.clone_model(model, clone_function=in_float32)
    clone.set_weights(model.get_weights())
    return keras.Model(clone.inputs, clone.outputs)


def write_export(
    path: Path, model: keras.Model, images: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Writes layers, weights, examples and logits; returns the logits `[N, C]`."""
    layers, arrays = _layers_and_weights(model)
    logits = model.predict(images, batch_size=128, verbose=0)
    with files.atomic_write(path) as beside:
        np.savez(
            beside,
            layers=np.array(json.dumps(layers)),
            images=images,
            labels=labels.astype("int64"),
            logits=logits,
            **arrays,
        )
    return logits


def _layers_and_weights(
    model: keras.Model,
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    layers: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    zeros: dict[str, tuple[str, list[int]]] = {}  # padding layers, told to their users
    for entry in model.get_config()["layers"]:
        layer, name = model.get_layer(entry["config"]["name"]), entry["config"]["name"]
        inputs = _names_in(entry["inbound_nodes"])
        if isinstance(layer, keras.layers.ZeroPadding2D):
            zeros[name] = (inputs[0], _symmetric(layer))
            continue
        told = {key: entry["config"].get(key) for key in KEPT}
        told["zeros"] = zeros[inputs[0]][1] if inputs and inputs[0] in zeros else [0, 0]
        if told["zeros"] != [0, 0] and not isinstance(layer, keras.layers.Conv2D):
            raise ValueError(f"Only convolutions may follow padding: {name!r}.")
        weights = layer.get_weights()
        arrays |= {f"{len(layers)}/{k}": array for k, array in enumerate(weights)}
        layers.append(
            {
                "name": name,
                "kind": type(layer).__name__,
                "inputs": [zeros[i][0] if i in zeros else i for i in inputs],
                "weights": len(weights),
                **told,
            }
        )
    return layers, arrays


def _names_in(nodes: Any) -> list[str]:
    """The layers whose outputs a serialized call takes, in its order."""
    if isinstance(nodes, dict):
        history = nodes.get("config", {}).get("keras_history")
        return [history[0]] if history else _names_in(list(nodes.values()))
    if isinstance(nodes, (list, tuple)):
        return [name for node in nodes for name in _names_in(node)]
    return []


def _symmetric(layer: keras.layers.ZeroPadding2D) -> list[int]:
    if any(before != after for before, after in layer.padding):
        raise ValueError(f"Padding must be the same on both sides: {layer.name!r}.")
    return [before for before, _ in layer.padding]
