"""Draws the persistent perturbation of Free training."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from keras_free_adv import validation
from keras_free_adv.plotting.style import (
    LABEL,
    TEXT,
    TITLE,
    new_figure,
    scale_of,
    show_image,
)
from keras_free_adv.training.delta_statistics import delta_statistics
from keras_free_adv.training.free_adversarial_model import FreeAdversarialModel

_COLUMNS = 8
_BINS = 41


def plot_delta(model: FreeAdversarialModel, *, images: int = 16) -> Figure:
    """Draws the delta of a Free model: as images, and as a histogram of its values.

    delta persists from minibatch to minibatch, and begins at zero. Gray is zero, white
    is +epsilon, black -epsilon. In "linf" the histogram shows all values of delta; in
    "l2", where the ball bounds each example and not each pixel, their lengths. Both are
    in units of epsilon. A delta at the edge of the ball follows its gradient; one near
    zero has not moved, or its gradient vanishes.

    Args:
        model: a model after at least one update.
        images: the largest number of images to draw, the first of the first replica;
            none if delta is not `[replicas, B, height, width, 1 or 3]`.

    Returns:
        A matplotlib figure.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message; or a model that
            was not trained.

    Example:
    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(10, activation="softmax")])
    >>> model = FreeAdversarialModel(network, epsilon=0.1, replays=2)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> data = np.random.rand(64, 8, 8, 1), np.random.randint(0, 10, 64)
    >>> history = model.fit(*data, epochs=2, verbose=0)
    >>> len(plot_delta(model, images=8).axes)
    9
    """
    if not isinstance(model, FreeAdversarialModel):
        raise TypeError(
            "Argument `model` must be a FreeAdversarialModel, which has a delta. "
            f"Received: {type(model).__name__}."
        )
    images = validation.positive_integer("images", images)
    delta = model.delta
    if delta is None:
        raise ValueError(
            f"Argument `model` must have been trained. Received: {model.name!r}, whose "
            "delta is None. Call `fit` first."
        )
    shown = delta[0][:images]
    if shown.ndim != 4 or shown.shape[-1] not in (1, 3):
        shown = shown[:0]
    rows = -(-len(shown) // _COLUMNS)
    figure = new_figure(10, 4.2 + 1.35 * rows)
    grid = figure.add_gridspec(
        rows + 1, _COLUMNS, height_ratios=[*(1.35 for _ in range(rows)), 3.8]
    )
    axes = [
        figure.add_subplot(grid[i // _COLUMNS, i % _COLUMNS]) for i in range(len(shown))
    ]
    _show_deltas(axes, shown / model.epsilon, model)
    _show_histogram(figure.add_subplot(grid[rows, :]), delta, model)
    return figure


def _show_deltas(
    axes: list[Axes], shown: np.ndarray, model: FreeAdversarialModel
) -> None:
    """Draws deltas, in units of epsilon."""
    # In L2 a single value never comes near epsilon.
    largest = 1.0 if model.norm == "linf" else float(np.abs(shown).max()) or 1.0
    for number, (axis, one) in enumerate(zip(axes, shown, strict=True)):
        show_image(axis, 0.5 + 0.5 * one / largest)
        axis.set_title(str(number), fontsize=TEXT)
    if axes:
        white = "ε" if largest == 1.0 else f"{largest:.2g} ε"
        axes[0].set_ylabel(f"white: +{white}\nblack: −{white}", fontsize=TEXT)


def _show_histogram(axis: Axes, delta: np.ndarray, model: FreeAdversarialModel) -> None:
    """Draws the distribution of the values, or of the lengths."""
    found = delta_statistics(delta, model.epsilon, model.norm)
    values, what = found.sizes, found.what
    axis.hist(
        np.clip(values, *found.ends),
        bins=_BINS,
        range=found.ends,
        weights=np.full(values.size, 1 / values.size),
        color="0.55",
        edgecolor="black",
    )
    axis.set_title(
        f"{found.at_the_edge:.0%} of the {values.size:,} {what}s at the edge of the "
        f"ball, {found.zero:.0%} zero",
        fontsize=TITLE,
    )
    axis.set_xlabel(
        f"{what} of delta, in units of ε = {model.epsilon:.3g} ({model.norm}, "
        f"{scale_of(model.value_range)})",
        fontsize=LABEL,
    )
    axis.set_ylabel(f"share of the {what}s", fontsize=LABEL)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.tick_params(labelsize=TEXT)
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
