"""Draws accuracy against training time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from keras_free_adv import recipes, validation
from keras_free_adv.plotting.style import finish_curves, new_figure, style


def plot_accuracy_against_time(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    ylabel: str = "robust accuracy",
    title: str = "",
    xlabel: str = "training, minutes",
) -> Figure:
    """Draws how accuracy rises while models are trained, on one axis of seconds.

    Args:
        curves: name to (seconds of training so far, accuracy then, as a share).
        ylabel: label of the accuracy, such as "PGD-20 accuracy, 500 test images".
        title: title of the picture.
        xlabel: label of the time axis, which is in minutes.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: no curve, or one with other numbers of seconds and accuracies.

    Example:
    >>> figure = plot_accuracy_against_time({"Free": ([10, 20], [0.2, 0.3])})
    >>> len(figure.axes[0].lines)
    1
    """
    checked = _checked(curves)
    validation.text("ylabel", ylabel)
    validation.text("title", title)
    validation.text("xlabel", xlabel)
    figure = new_figure(8, 5)
    axis = figure.subplots()
    for number, (name, (seconds, accuracy)) in enumerate(checked.items()):
        axis.plot(seconds / 60, accuracy, style(number), label=name, markersize=5)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    finish_curves(axis, xlabel, ylabel, title)
    return figure


def plot_published_cost(dataset: str = "imagenet", attack: str = "pgd100") -> Figure:
    """Draws published accuracy under an attack against published training minutes.

    The figures are those of Shafahi et al. (2019), from the recipes; none is measured.

    Args:
        dataset: "imagenet", "cifar10" or "cifar100".
        attack: a column of the table, such as "pgd100".

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: an unknown table, or no row has a figure for the attack.

    Example:
    >>> plot_published_cost().axes[0].get_xlabel()
    'training, published minutes'
    """
    attack = validation.text("attack", attack)
    rows = [
        (recipe, recipe.published_minutes)
        for recipe in recipes.table(dataset)
        if attack in recipe.published and recipe.published_minutes is not None
    ]
    if not rows:
        raise ValueError(
            "Argument `attack` must be a column of the table. Received: "
            f"attack={attack!r} for {dataset!r}."
        )
    figure = new_figure(8, 5)
    axis = figure.subplots()
    for number, (recipe, minutes) in enumerate(rows):
        axis.plot(
            [minutes],
            [recipe.published[attack]],
            style(number).lstrip("-.:"),
            markersize=11,
            label=_description(recipe),
        )
    axis.margins(0.1)
    axis.yaxis.set_major_formatter(PercentFormatter(100.0, decimals=0))
    names = {"imagenet": "ImageNet", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
    title = f"{names[dataset]}, as published by Shafahi et al. (2019)"
    label = f"{attack.replace('pgd', 'PGD-')} accuracy, published"
    finish_curves(axis, "training, published minutes", label, title)
    return figure


def _checked(curves: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    if not validation.mapping("curves", curves):
        raise ValueError("Argument `curves` is empty. Pass at least one curve.")
    checked: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, curve in curves.items():
        if not isinstance(curve, (tuple, list)) or len(curve) != 2:
            raise TypeError(
                "Argument `curves` must hold pairs (seconds, accuracies). Received: "
                f"{curve!r} for {name!r}."
            )
        seconds, accuracy = (
            validation.as_array(validation.array_or_tensor("curves", part))
            for part in curve
        )
        if seconds.ndim != 1 or seconds.shape != accuracy.shape or not seconds.size:
            raise ValueError(
                "Argument `curves` must hold as many seconds as accuracies, at "
                f"least one. Received: shapes {seconds.shape} and {accuracy.shape} for "
                f"{name!r}."
            )
        checked[name] = seconds, accuracy
    return checked


def _description(recipe: recipes.Recipe) -> str:
    """Names a row, such as "ResNet-50, Free m=4"."""
    arguments = recipe.method_arguments
    method = {
        "free": f"Free m={arguments.get('replays')}",
        "pgd": f"{arguments.get('steps')}-PGD",
    }.get(recipe.method, recipe.method)
    network = recipe.model.rpartition(".")[2].replace("ResNet", "ResNet-")
    if recipe.model == "wide_resnet":
        network = "WRN-{depth}-{width}".format(**recipe.model_arguments)
    return f"{network}, {method}"
