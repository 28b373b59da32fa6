"""The trials of `small_recipe.py`: networks, and settings."""

from collections.abc import Callable
from typing import Any

import keras

from keras_free_adv import zoo
from keras_free_adv.zoo.fused_batch_normalization import FusedBatchNormalization
from keras_free_adv.zoo.pixels import centered
from keras_free_adv.zoo.preact_resnet import convolution

BASE_UPDATES = 6000  # of the base, in twenty minutes of one core

BASE: dict[str, Any] = {
    "network": "preact18",
    "method": "free",
    "replays": 4,
    "epsilon": 8 / 255,  # of the training; the evaluation's is 8/255
    "step_size": 8 / 255,
    "steps": 1,
    "group": 1,
    "restart": 1,
    "first": 1.0,
    "consistency": 0.0,
    "batch_size": 128,
    "optimizer": "sgd",
    "momentum": 0.9,
    "others": 5.0,
    "ns": 3,
    "learning_rate": 0.1,
    "rise": 0.4,
    "weight_decay": 2e-4,
    "decayed": "all",
    "augment": "standard",
    "smoothing": 0.0,
    "ema": None,
    "warmup": 0.0,
    "activation": "relu",
    "policy": "mixed_bfloat16",
    "cost": 1.0,
}

# What a part of a trial's name stands for. The cost is that of an update, as measured
# by `small_recipe.py --cost` on one core.
PARTS: dict[str, dict[str, Any]] = {
    "base": {},
    "s32": {"network": "s32", "cost": 0.69},
    "s48": {"network": "s48", "cost": 1.0},
    "silu": {"activation": "silu", "cost": 1.05},
    "softplus": {"activation": "softplus", "cost": 1.05},
    "muon": {
        "optimizer": "muon",
        "learning_rate": 0.02,
        "rise": 0.1,
        "weight_decay": 0.0,
        "cost": 1.08,
    },
    "per_example": {"method": "per_example"},
    "consistent": {"method": "consistent", "replays": 2, "step_size": 10 / 255},
    "group4": {"method": "interleaved", "group": 4},
    "group16": {"method": "interleaved", "group": 16},
    "fgsm": {"method": "pgd", "replays": 1, "step_size": 10 / 255, "cost": 1.6},
    "pgd7": {
        "method": "pgd",
        "replays": 1,
        "steps": 7,
        "step_size": 2 / 255,
        "cost": 5.3,
    },
}

TRIALS = ["base", "s32", "s32+per_example+replays=2"]


def settings_of(name: str) -> dict[str, Any]:
    """All settings of a trial: `part+setting=value+...`; costs are multiplied."""
    settings = dict(BASE)
    for part in name.split("+"):
        if "=" in part:
            key, value = part.split("=")
            changes = {key: literal(value)}
        else:
            changes = dict(PARTS[part])
        unknown = changes.keys() - BASE.keys()
        if unknown:
            raise ValueError(f"A trial has no {unknown}: {name}.")
        changes["cost"] = settings["cost"] * changes.get("cost", 1.0)
        if "batch_size" in changes:
            changes["cost"] *= changes["batch_size"] / settings["batch_size"]
        settings.update(changes)
    return settings


def literal(text: str) -> Any:
    """A number (also `8/255`), or a word."""
    try:
        top, _, bottom = text.partition("/")
        value = float(top) / float(bottom or 1)
        return int(value) if value == int(value) and "." not in text else value
    except ValueError:
        return text


def preact18(settings: dict[str, Any]) -> keras.Model:
    """The network of the present small recipes."""
    if settings["activation"] != "relu":
        raise ValueError("preact_resnet18 has ReLUs. Take another network.")
    return zoo.preact_resnet18(width=16)


def strided(
    settings: dict[str, Any], widths: tuple[int, ...], blocks: tuple[int, ...]
) -> keras.Model:
    """A pre-activation ResNet whose first convolution has stride 2."""
    inputs = keras.Input((32, 32, 3), name="image")
    x = centered((0.0, 1.0))(inputs)
    x = convolution(x, widths[0], 3, 2)
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for number in range(count):
            strides = 2 if stage and not number else 1
            activated = activation(x, settings)
            changes = strides != 1 or x.shape[-1] != width
            shortcut = convolution(activated, width, 1, strides) if changes else x
            y = convolution(activated, width, 3, strides)
            y = convolution(activation(y, settings), width, 3)
            x = keras.layers.Add()([y, shortcut])
    x = activation(x, settings)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(10, dtype="float32", name="logits")(x)
    return keras.Model(inputs, outputs)


def activation(x: Any, settings: dict[str, Any]) -> Any:
    x = FusedBatchNormalization(momentum=0.9, epsilon=1e-5)(x)
    return keras.layers.Activation(settings["activation"])(x)


NETWORKS: dict[str, Callable[[dict[str, Any]], keras.Model]] = {
    "preact18": preact18,
    "s32": lambda settings: zoo.compact_resnet(activation=settings["activation"]),
    "s48": lambda settings: strided(settings, (48, 80, 112), (2, 2, 2)),
    "s64": lambda settings: strided(settings, (64, 96, 128), (2, 2, 1)),
}
