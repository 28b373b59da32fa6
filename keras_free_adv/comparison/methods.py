"""The methods of training that are compared, by their names."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras

from keras_free_adv import validation
from keras_free_adv.training.free_adversarial_model import FreeAdversarialModel
from keras_free_adv.training.natural_model import NaturalModel
from keras_free_adv.training.pgd_adversarial_model import PGDAdversarialModel
from keras_free_adv.training.trades_model import TRADESModel
from keras_free_adv.training.weight_updates import WeightUpdates

Method = Callable[[keras.Model], keras.Model]

NAMES = ("natural", "free", "fgsm_rs", "pgd7", "trades")
_FREE = re.compile(r"free([1-9]\d*)")  # with its m


def chosen(
    methods: Iterable[str] | Mapping[str, Method],
    epsilon: float,
    norm: str,
    value_range: tuple[float, float],
) -> dict[str, Method]:
    """Each method's name to the function that wraps a network for it.

    Raises:
        TypeError, ValueError: no methods, an unknown one, or no function.
    """
    if isinstance(methods, Mapping):
        for name, make in validation.mapping("methods", methods).items():
            validation.text("methods", name)
            if not callable(make):
                raise TypeError(
                    "Argument `methods` must map names to functions that wrap a model. "
                    f"Received: {make!r} for {name!r}."
                )
        found = dict(methods)
    elif isinstance(methods, str):
        raise TypeError(
            f"Argument `methods` must be a list of names, such as {list(NAMES)}. "
            f"Received: {methods!r}. Write [{methods!r}]."
        )
    else:
        found = {name: _named(name, epsilon, norm, value_range) for name in methods}
    if not found:
        raise ValueError("Argument `methods` is empty. Name at least one.")
    return found


def _named(
    name: str, epsilon: float, norm: str, value_range: tuple[float, float]
) -> Method:
    """A method that has a name, with the settings of the paper's tables."""

    def of(kind: Callable[..., WeightUpdates], **settings: Any) -> Method:
        return lambda model: kind(
            model, epsilon, norm=norm, value_range=value_range, **settings
        )

    with_m = _FREE.fullmatch(validation.text("methods", name))
    if with_m:
        return of(FreeAdversarialModel, replays=int(with_m[1]))
    known = {
        "natural": lambda model: NaturalModel(model, value_range=value_range),
        "free": of(FreeAdversarialModel),
        "fgsm_rs": of(PGDAdversarialModel, steps=1, step_size=1.25 * epsilon),
        "pgd7": of(PGDAdversarialModel, steps=7, step_size=epsilon / 4),
        "trades": of(TRADESModel, steps=10, step_size=epsilon / 4),
    }
    return known[validation.one_of("methods", name, NAMES)]
