"""Checks of the settings of a recipe."""

from collections.abc import Callable, Mapping
from typing import Any

from keras_free_adv import validation

# Returns the value of a setting, given its name and what was passed, or raises.
Check = Callable[[str, Any], Any]

# The arguments that a recipe may set of each method, and of each model of the zoo.
METHOD_ARGUMENTS: dict[str, set[str]] = {
    "natural": set(),
    "free": {"replays", "step_size"},
    "pgd": {"steps", "step_size", "random_start"},
    "trades": {"steps", "step_size", "beta"},
}
MODEL_ARGUMENTS: dict[str, set[str]] = {
    "wide_resnet": {"depth", "width"},
    "preact_resnet18": {"width"},
    "compact_resnet": {"width", "activation"},
    "small_cnn": set(),
}


def _one_of(*choices: str) -> Check:
    return lambda name, value: validation.one_of(name, value, choices)


def _or_none(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _model(name: str, value: Any) -> str:
    model = validation.text(name, value)
    library = model.rpartition(".")[0]
    if model not in MODEL_ARGUMENTS and library != "keras.applications":
        raise ValueError(
            f"Argument `model` must be one of {', '.join(MODEL_ARGUMENTS)}, or "
            f"keras.applications.NAME. Received: model={model!r}."
        )
    return model


def _share(name: str, value: Any) -> float:
    share = validation.finite_number(name, value)
    if not 0.0 <= share < 1.0:
        raise ValueError(
            f"Argument `{name}` must be at least 0 and below 1. Received: "
            f"{name}={value!r}."
        )
    return share


def _figures(name: str, value: Any) -> dict[str, float]:
    figures = validation.mapping(name, value)
    return {
        key: validation.finite_number(f"{name}[{key!r}]", figures[key])
        for key in figures
    }


CHECKS: dict[str, Check] = {
    "name": validation.text,
    "dataset": validation.text,
    "train_split": validation.text,
    "test_split": validation.text,
    "augment": _one_of("none", "flip", "standard", "standard_pad2"),
    "drop_remainder": validation.boolean,
    "model": _model,
    "model_arguments": validation.mapping,
    "method": _one_of(*METHOD_ARGUMENTS),
    "method_arguments": validation.mapping,
    "epsilon": validation.positive_number,
    "training_epsilon": _or_none(validation.positive_number),
    "norm": _one_of("linf", "l2"),
    "batch_size": validation.positive_integer,
    "epochs": validation.positive_integer,
    "steps_per_epoch": validation.positive_integer,
    "optimizer": _one_of("sgd", "muon"),
    "learning_rate": validation.positive_number,
    "schedule": _one_of("constant", "piecewise", "cosine", "cyclic"),
    "rise": _share,
    "momentum": _share,
    "weight_decay": validation.not_negative,
    "decayed": _one_of("kernels", "all"),
    "label_smoothing": _share,
    "ema_momentum": _or_none(_share),
    "epsilon_warmup_steps": validation.whole_number,
    "policy": _one_of("float32", "mixed_bfloat16", "mixed_float16"),
    "attacks": _one_of("cifar10", "cifar100", "imagenet"),
    "published": _figures,
    "published_minutes": _or_none(validation.positive_number),
    "published_on": validation.text,
    "source": validation.text,
}


def check_arguments(
    owner: str, called: str, arguments: Mapping[str, Any], known: set[str]
) -> dict[str, Any]:
    """Returns the arguments of a method or a model, or raises if one is unknown."""
    checked: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in known:
            raise ValueError(
                f"Argument `{owner}_arguments`: the {owner} {called!r} takes "
                f"{', '.join(sorted(known)) or 'none'}. Received: {name!r}."
            )
        if name in ("replays", "steps", "depth", "width"):
            checked[name] = validation.positive_integer(name, value)
        elif name == "random_start":
            checked[name] = validation.boolean(name, value)
        elif name == "activation":
            checked[name] = validation.text(name, value)
        else:
            checked[name] = validation.positive_number(name, value)
    return checked
