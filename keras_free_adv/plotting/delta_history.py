"""Draws the persistent perturbation of Free training as it changes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from keras_free_adv import pixel_scale, validation
from keras_free_adv.geometry import NORMS
from keras_free_adv.plotting.style import (
    TEXT,
    TITLE,
    finish_curves,
    new_figure,
    scale_of,
    show_image,
    style,
)
from keras_free_adv.training.delta_statistics import delta_statistics

# More images would be too small.
_MOMENTS = 8


def plot_delta_history(
    deltas: Mapping[int, Any],
    epsilon: float,
    *,
    norm: str = "linf",
    value_range: tuple[float, float] | None = None,
    images: int = 2,
    moment: str = "update",
) -> Figure:
    """Draws delta at several moments of a Free training.

    The upper rows show the first examples' deltas as images, at up to eight of the
    moments: gray is zero, white is +epsilon, black -epsilon ("l2": the largest value of
    all). The curves below show the share of delta at the edge of the ball and its mean
    size, as in `plot_delta`, at every moment: delta begins at zero, and is soon at the
    edge if its gradient is useful.

    Args:
        deltas: number of the update (or epoch) to delta after it, `[replicas, B, ...]`,
            the value of `FreeAdversarialModel.delta`; at least two moments.
        epsilon: radius of the ball, on the pixel scale.
        norm: "linf" or "l2".
        value_range: lowest and highest pixel value; None for (0, 1).
        images: the number of examples to draw, of the first replica; none if delta is
            not `[replicas, B, height, width, 1 or 3]`.
        moment: what the numbers count.

    Returns:
        A matplotlib figure.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message.

    Example:
    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(10, activation="softmax")])
    >>> model = FreeAdversarialModel(network, epsilon=0.1, replays=2, step_size=0.03)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> data = np.random.rand(64, 8, 8, 1), np.random.randint(0, 10, 64)
    >>> deltas = {}
    >>> class KeepDelta(keras.callbacks.Callback):
    ...     def on_train_batch_end(self, batch, logs=None):
    ...         deltas[batch + 1] = self.model.delta
    >>> history = model.fit(*data, epochs=2, callbacks=[KeepDelta()], verbose=0)
    >>> figure = plot_delta_history(deltas, epsilon=0.1)
    >>> [axis.get_title() for axis in figure.axes if axis.get_title()]
    ['update 1', '2']
    """
    norm = validation.one_of("norm", norm, NORMS)
    if value_range is None:
        value_range = pixel_scale.UNIT_RANGE
    value_range = validation.pixel_range(value_range)
    epsilon = validation.ball_radius(epsilon, value_range, norm)
    images = validation.positive_integer("images", images)
    moment = validation.text("moment", moment)
    found = _checked(deltas)
    moments = sorted(found)
    shown = _chosen(moments)
    first = found[moments[0]]
    rows = min(images, first.shape[1])
    if first.ndim != 5 or first.shape[-1] not in (1, 3):
        rows = 0

    figure = new_figure(max(1.4 * len(shown) + 0.6, 7), 4.2 + 1.4 * rows)
    grid = figure.add_gridspec(
        rows + 1, len(shown), height_ratios=[*(1.4 for _ in range(rows)), 3.8]
    )
    axes = [
        [figure.add_subplot(grid[r, c]) for c in range(len(shown))] for r in range(rows)
    ]
    largest = _white_value(found, epsilon, norm)
    for row in range(rows):
        for axis, when in zip(axes[row], shown, strict=True):
            show_image(axis, 0.5 + 0.5 * found[when][0][row] / largest)
    if rows:
        for axis, when in zip(axes[0], shown, strict=True):
            begins = f"{moment} " if when == shown[0] else ""
            axis.set_title(f"{begins}{when}", fontsize=TITLE)
        white = "ε" if norm == "linf" else f"{largest / epsilon:.2g} ε"
        axes[0][0].set_ylabel(f"white: +{white}\nblack: −{white}", fontsize=TEXT)
    curves = figure.add_subplot(grid[rows, :])
    _draw_curves(curves, moments, found, epsilon, norm)
    ball = f"ε = {epsilon:.3g} ({norm}, {scale_of(value_range)})"
    finish_curves(curves, f"{moment};  {ball}", "share of delta, or size in ε")
    return figure


def _checked(deltas: Any) -> dict[int, np.ndarray]:
    """Returns the deltas by number, all of one shape, or raises."""
    if not isinstance(deltas, Mapping):
        raise TypeError(
            "Argument `deltas` must be a dict of numbers of updates to deltas. "
            f"Received: {type(deltas).__name__}."
        )
    found: dict[int, np.ndarray] = {}
    for when, value in deltas.items():
        number = validation.whole_number("deltas", when)
        if value is None:
            raise ValueError(
                f"Argument `deltas` must hold arrays. Received: None for {when!r}. "
                "A model has no delta before its first update."
            )
        found[number] = validation.as_array(validation.array_or_tensor("deltas", value))
    shapes = {delta.shape for delta in found.values()}
    if len(found) < 2 or len(shapes) > 1 or len(next(iter(shapes))) < 3:
        raise ValueError(
            "Argument `deltas` must hold two deltas or more of one shape, "
            f"[replicas, B, ...]. Received: {len(found)}, of shapes {sorted(shapes)}."
        )
    return found


def _chosen(moments: list[int]) -> list[int]:
    """The moments whose images are drawn: first, last, and evenly between."""
    places = np.linspace(0, len(moments) - 1, min(len(moments), _MOMENTS))
    return [moments[place] for place in np.unique(places.round().astype(int))]


def _white_value(deltas: dict[int, np.ndarray], epsilon: float, norm: str) -> float:
    """The value drawn white: in L2 a single value never comes near epsilon."""
    if norm == "linf":
        return epsilon
    return max(float(np.abs(delta[0]).max()) for delta in deltas.values()) or 1.0


def _draw_curves(
    axis: Axes,
    moments: list[int],
    deltas: dict[int, np.ndarray],
    epsilon: float,
    norm: str,
) -> None:
    found = [delta_statistics(deltas[when], epsilon, norm) for when in moments]
    every = -(-len(moments) // 15)
    what = found[0].what
    for number, (label, values) in enumerate(
        {
            f"{what}s at the edge of the ball": [s.at_the_edge for s in found],
            f"mean {'|value|' if norm == 'linf' else what}, in ε": [
                s.mean_size for s in found
            ],
        }.items()
    ):
        axis.plot(moments, values, style(number), label=label, markevery=every)
    axis.set_ylim(-0.03, 1.03)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
