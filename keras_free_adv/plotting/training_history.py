"""Draws the loss and the accuracies, natural and robust, of a training."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from keras_free_adv import validation
from keras_free_adv.plotting.style import finish_curves, new_figure, style

_VALIDATION = "val_"
_ACCURACY = "accuracy"


def plot_training_history(
    history: keras.callbacks.History | Mapping[str, Any], *, title: str = ""
) -> Figure:
    """Draws the logs of `fit`: the loss, and natural and robust accuracy.

    The left panel shows `loss` and `val_loss`; the right one every accuracy: in
    training (an adversarial model logs it under its own perturbation), in validation,
    and under the attacks of `RobustnessEvaluation` (`val_<attack>_accuracy`). If the
    logs have `passes`, as those of an adversarial model do, the axis counts passes
    through the data; otherwise epochs.

    Entries that were not logged after each epoch are drawn at their own epochs: with
    `RobustnessEvaluation(evaluation_freq=k)` the first is at epoch k, with
    `validation_freq=k` there is one at each k-th epoch.

    Args:
        history: the result of `fit`, or its `history`, a dict of name to one number an
            epoch; NaN where nothing was measured.
        title: title of the picture.

    Returns:
        A matplotlib figure, with one panel if there is only a loss, or no loss.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message.

    Example:
    >>> figure = plot_training_history(
    ...     {"loss": [2.0, 1.0], "accuracy": [0.5, 0.75], "passes": [1.0, 2.0]})
    >>> figure.axes[1].get_xlabel()
    'passes through the data'
    """
    title = validation.text("title", title)
    logs = _checked(history)
    losses = {name: logs[name] for name in ("loss", "val_loss") if name in logs}
    accuracies = {name: v for name, v in logs.items() if _is_accuracy(name)}
    panels = [panel for panel in (losses, accuracies) if panel]
    if not panels:
        raise ValueError(
            "Argument `history` must hold a loss or an accuracy. Received: entries "
            f"{list(logs)}."
        )
    passes = logs.get("passes")
    epochs = max(map(len, logs.values()))
    x = (
        np.arange(1, epochs + 1)
        if passes is None
        else _check_complete("passes", passes, epochs)
    )
    figure = new_figure(6.5 * len(panels), 5)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    xlabel = "epochs" if passes is None else "passes through the data"
    for axis, panel in zip(axes, panels, strict=True):
        for number, (name, values) in enumerate(panel.items()):
            where = _where(name, len(values), epochs, logs)
            _draw(axis, x[where], values, style(number), _label(name, logs))
        if panel is accuracies:
            axis.set_ylim(-0.03, 1.03)
            axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        finish_curves(axis, xlabel, "loss" if panel is losses else "accuracy", title)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _checked(history: Any) -> dict[str, np.ndarray]:
    """Returns the entries as arrays, or raises."""
    if isinstance(history, keras.callbacks.History):
        history = history.history
    logs: dict[str, np.ndarray] = {}
    for name, values in validation.mapping("history", history).items():
        array = validation.as_array(validation.array_or_tensor("history", values))
        if array.ndim != 1:
            raise ValueError(
                "Argument `history` must hold lists of numbers, one an epoch. "
                f"Received: shape {array.shape} for {name!r}."
            )
        if array.size:
            logs[name] = array.astype("float64")
    if not logs:
        raise ValueError(
            "Argument `history` is empty. Pass the result of `fit`, after at least one "
            "epoch."
        )
    return logs


def _check_complete(name: str, values: np.ndarray, epochs: int) -> np.ndarray:
    if len(values) != epochs:
        raise ValueError(
            f"Argument `history` must have an entry of {name!r} for each epoch. "
            f"Received: {len(values)} for {epochs} epochs."
        )
    return values


def _is_accuracy(name: str) -> bool:
    return name in ("acc", "val_acc") or name.endswith(_ACCURACY)


def _is_robust(name: str, logs: Mapping[str, Any]) -> bool:
    """Whether it is accuracy under an attack: other metrics are logged in training."""
    return (
        name.startswith(_VALIDATION)
        and name.endswith(f"_{_ACCURACY}")
        and name != f"{_VALIDATION}{_ACCURACY}"
        and name.removeprefix(_VALIDATION) not in logs
    )


def _label(name: str, logs: Mapping[str, Any]) -> str:
    if _is_robust(name, logs):
        attack = name.removeprefix(_VALIDATION).removesuffix(f"_{_ACCURACY}")
        return f"validation, under {attack}"
    metric = name.removeprefix(_VALIDATION)
    part = "training" if metric == name else "validation"
    if metric == "loss":
        return part
    metrics = [n for n in logs if _is_accuracy(n) and not n.startswith(_VALIDATION)]
    name_of_metric = [] if len(metrics) < 2 else [metric]
    natural = ["natural"] if part == "validation" else []
    return ", ".join([part, *natural, *name_of_metric])


def _where(name: str, count: int, epochs: int, logs: Mapping[str, Any]) -> np.ndarray:
    """The epochs, counted from 0, after which an entry was logged."""
    if count == epochs:
        return np.arange(epochs)
    if _is_robust(name, logs):  # logged after each epoch from the first on
        return np.arange(epochs - count, epochs)
    every = [k for k in range(1, epochs + 1) if epochs // k == count]
    if len(every) != 1:
        raise ValueError(
            "Argument `history` must have one number an epoch in each entry. Received: "
            f"{count} of {name!r} for {epochs} epochs; to which of them they belong is "
            "unknown. Put NaN where nothing was measured."
        )
    return np.arange(every[0] - 1, epochs, every[0])


def _draw(axis: Axes, x: np.ndarray, values: np.ndarray, fmt: str, label: str) -> None:
    # Enough markers to tell the curves apart, but not so many that they hide them.
    axis.plot(x, values, fmt, label=label, markersize=6, markevery=-(-len(x) // 15))
