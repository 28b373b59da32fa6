"""How training went: loss and accuracies, natural and robust."""

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
    """Draws what `fit` logged: the loss, and natural and robust accuracy.

    On the left are `loss` and `val_loss`; on the right every accuracy: of training
    (what an adversarial model logs is under its own perturbation), of validation, and
    under the attacks of `RobustnessEvaluation` (`val_<attack>_accuracy`). If there are
    `passes` among the logs, as of an adversarial model, the axis counts passes through
    the data; otherwise epochs.

    An entry that was not logged after each epoch stands where it belongs: of
    `RobustnessEvaluation(every=k)` the first is at epoch k, of `validation_freq=k` one
    at each k-th epoch.

    Args:
        history: what `fit` returned, or its `history`, a dict of name to one number an
            epoch; NaN where nothing was measured.
        title: above the picture.

    Returns:
        A matplotlib figure, of one picture if there is only a loss, or no loss.

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
    x = np.arange(1, epochs + 1) if passes is None else _whole("passes", passes, epochs)
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
    """The entries that are one number an epoch."""
    if isinstance(history, keras.callbacks.History):
        history = history.history
    logs: dict[str, np.ndarray] = {}
    for name, values in validation.mapping("history", history).items():
        array = np.asarray(validation.array_or_tensor("history", values))
        if array.ndim != 1:
            raise ValueError(
                "Argument `history` must hold lists of numbers, one an epoch. "
                f"Received: shape {array.shape} for {name!r}."
            )
        if array.size:
            logs[name] = array.astype("float64")
    if not logs:
        raise ValueError(
            "Argument `history` is empty. Pass what `fit` returned, after one epoch at "
            "least."
        )
    return logs


def _whole(name: str, values: np.ndarray, epochs: int) -> np.ndarray:
    if len(values) != epochs:
        raise ValueError(
            f"Argument `history` must have an entry of {name!r} for each epoch. "
            f"Received: {len(values)} for {epochs} epochs."
        )
    return values


def _is_accuracy(name: str) -> bool:
    return name in ("acc", "val_acc") or name.endswith(_ACCURACY)


def _is_robust(name: str, logs: Mapping[str, Any]) -> bool:
    """Whether it is accuracy under an attack: a metric is logged of training, too."""
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
    measured = [n for n in logs if _is_accuracy(n) and not n.startswith(_VALIDATION)]
    what = [] if len(measured) < 2 else [metric]
    return ", ".join([part, *(["natural"] if part == "validation" else []), *what])


def _where(name: str, count: int, epochs: int, logs: Mapping[str, Any]) -> np.ndarray:
    """The epochs, counted from 0, after which an entry was logged."""
    if count == epochs:
        return np.arange(epochs)
    if _is_robust(name, logs):  # logged again after each epoch, once there is a first
        return np.arange(epochs - count, epochs)
    every = [k for k in range(1, epochs + 1) if epochs // k == count]
    if len(every) != 1:
        raise ValueError(
            "Argument `history` must have one number an epoch in each entry. Received: "
            f"{count} of {name!r} for {epochs} epochs, and which they belong to cannot "
            "be told. Put NaN where nothing was measured."
        )
    return np.arange(every[0] - 1, epochs, every[0])


def _draw(axis: Axes, x: np.ndarray, values: np.ndarray, fmt: str, label: str) -> None:
    # Markers enough to tell the curves apart, and not so many as to hide them.
    axis.plot(x, values, fmt, label=label, markersize=6, markevery=-(-len(x) // 15))
