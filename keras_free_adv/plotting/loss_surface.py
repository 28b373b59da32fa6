"""The loss around an image, along an adversarial and a random direction."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from keras_free_adv import pixel_scale, validation
from keras_free_adv.attacks.pgd_attack import PGDAttack
from keras_free_adv.plotting import checks
from keras_free_adv.plotting.loss_on_plane import LossOnPlane, loss_on_plane
from keras_free_adv.plotting.style import (
    LABEL,
    TEXT,
    TITLE,
    fitted,
    new_figure,
    scale_of,
)
from keras_free_adv.predictions import AUTO

# Its lightness rises evenly, so that it can be read in black and white.
_COLORS = "viridis"

# Left, bottom, width and height, as shares of the figure.
_Place = tuple[float, float, float, float]


def plot_loss_surface(
    models: Mapping[str, keras.Model],
    image: Any,
    label: Any,
    epsilon: float,
    *,
    direction: str = "gradient",
    extent: float = 1.0,
    points: int = 21,
    value_range: tuple[float, float] | None = None,
    from_logits: bool | str = "auto",
    predicts: str = AUTO,
    seed: int = 0,
) -> Figure:
    """Draws the loss over a plane through an image: 3-D above, contours below.

    The plane is spanned by an adversarial direction d of each model, and by a random
    direction r of signs, the same for all:

        loss(clip(x + a epsilon d + b epsilon r), y),  d = sign(grad_x loss(x, y))

    All models are drawn on one scale. The loss of a natural model climbs steeply along
    d; that of a robust one is flat. If it is bumpy, or climbs faster along r than
    along d, gradients mislead, and so do attacks that follow them. The dashed line is
    the edge of the L-infinity ball, |a| + |b| = 1 in this plane.

    Reference: Shafahi et al. (2019), who show the loss of Free and 7-PGD models along
    an adversarial and a random direction.

    Args:
        models: name to classifier, drawn beside each other.
        image: one image, `[...]` without a batch axis, on the scale of `value_range`.
        label: its class number, or one-hot row.
        epsilon: radius of the ball, on the pixel scale: the unit of both axes.
        direction: "gradient", the sign of the gradient at the image; or "pgd", towards
            the result of `PGDAttack(epsilon, steps=20)`, where one step is too weak.
        extent: how far to go to each side, in units of epsilon.
        points: grid points along each axis, an odd number, 3 or more.
        value_range: lowest and highest pixel value; None for that of the models, which
            must be one; see `keras_free_adv.pixel_scale`.
        from_logits: whether the models return logits; "auto" looks through a final
            softmax, and otherwise decides from the outputs.
        predicts: what the models predict; see `PGDAttack`.
        seed: seed of the random direction, and of PGD's start.

    Returns:
        A matplotlib figure. The loss is the cross-entropy, in nats.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message; or a loss that
            is not finite.

    Example:
    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> image = np.random.rand(8, 8, 1).astype("float32")
    >>> figure = plot_loss_surface({"natural": network}, image, 2, 0.1, points=5)
    >>> [axis.name for axis in figure.axes[:2]]
    ['3d', 'rectilinear']
    """
    models = checks.named_models("models", models)
    direction = validation.one_of("direction", direction, ("gradient", "pgd"))
    extent = validation.positive_number("extent", extent)
    points = _checked_points(points)
    value_range = pixel_scale.resolve_for_all(value_range, models)
    attack = PGDAttack(
        epsilon,
        steps=20,
        value_range=value_range,
        from_logits=from_logits,
        predicts=predicts,
        seed=seed,
    )
    images, labels = _checked_example(image, label, models, value_range)
    views = {
        name: attack.view_of(model, images, labels) for name, model in models.items()
    }
    for view in views.values():
        view.check_labels(labels)
    steps = np.linspace(-extent, extent, points)
    surfaces = {
        name: loss_on_plane(
            name, model, views[name], images, labels, attack, direction, steps
        )
        for name, model in models.items()
    }
    return _draw(surfaces, steps, attack, value_range, direction)


def _checked_points(points: Any) -> int:
    points = validation.positive_integer("points", points)
    if points < 3 or points % 2 == 0:
        raise ValueError(
            "Argument `points` must be an odd number, 3 or more, so that the image is "
            f"the middle of the grid. Received: points={points}."
        )
    return points


def _checked_example(
    image: Any,
    label: Any,
    models: dict[str, keras.Model],
    value_range: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """The image and its label, as a minibatch of one."""
    image = validation.as_array(validation.array_or_tensor("image", image))
    images = validation.image_array("image", image[np.newaxis]).astype("float32")
    if not images.size:
        raise ValueError(
            f"Argument `image` must hold pixels. Received: shape {image.shape}."
        )
    checks.shapes_of_inputs("image", image.shape, models)
    validation.pixels_in_range("image", images, value_range)
    label = validation.as_array(validation.array_or_tensor("label", label))
    if label.ndim > 1:
        raise ValueError(
            "Argument `label` must be one class number, or one one-hot row. Received: "
            f"shape {label.shape}."
        )
    return np.clip(images, *value_range), label[np.newaxis]


def _draw(
    surfaces: dict[str, LossOnPlane],
    steps: np.ndarray,
    attack: PGDAttack,
    value_range: tuple[float, float],
    direction: str,
) -> Figure:
    losses = np.stack([surface.loss for surface in surfaces.values()])
    levels = np.asarray(MaxNLocator(8).tick_values(losses.min(), losses.max()))
    toward = "sign of gradient" if direction == "gradient" else "PGD-20"
    figure, places, place_of_colorbar = _places(len(surfaces))
    for column, (name, surface) in enumerate(surfaces.items()):
        above = figure.add_axes(places[0][column], projection="3d")
        _draw_in_3d(above, surface.loss, steps, levels)
        below = figure.add_axes(places[1][column])
        mesh = _draw_contours(below, surface.loss, steps, levels)
        title = f"{name} (no gradient)" if surface.flat else name
        above.set_title(fitted(title, 3.8), fontsize=TITLE, y=0.97)
        below.set_xlabel(f"adversarial ({toward}), ε", fontsize=LABEL)
        below.set_ylabel("random (signs), ε" if column == 0 else "", fontsize=LABEL)
    bar = figure.colorbar(mesh, cax=figure.add_axes(place_of_colorbar))
    bar.set_label("loss, nats", fontsize=LABEL)
    bar.ax.tick_params(labelsize=TEXT)
    figure.text(
        0.5,
        0.01,
        f"ε = {attack.epsilon:.3g}, {scale_of(value_range)}\ndashed: edge of the ball",
        ha="center",
        va="bottom",
        fontsize=TEXT,
    )
    return figure


def _places(columns: int) -> tuple[Figure, list[list[_Place]], _Place]:
    """A figure, the places of its columns in both rows, and that of the color bar.

    A layout engine would cut the labels off: it takes 3-D axes for as large as their
    box.
    """
    side, left, gap, right, bottom, top = 3.8, 1.0, 0.8, 1.6, 1.25, 4.4
    width, height = left + columns * (side + gap) - gap + right, bottom + side + top
    figure = new_figure(width, height, layout=None)
    rows = [
        [
            (
                (left + column * (side + gap) - grown / 2) / width,
                y / height,
                (side + grown) / width,
                (side + grown) / height,
            )
            for column in range(columns)
        ]
        for y, grown in ((bottom + side + 0.1, 0.4), (bottom, 0.0))
    ]
    bar = (1 - (right - 0.25) / width, bottom / height, 0.2 / width, side / height)
    return figure, rows, bar


def _draw_in_3d(
    axis: Any, loss: np.ndarray, steps: np.ndarray, levels: np.ndarray
) -> None:
    adversarial, random = np.meshgrid(steps, steps)
    axis.plot_surface(
        adversarial,
        random,
        loss,
        cmap=_COLORS,
        vmin=levels[0],
        vmax=levels[-1],
        rcount=len(steps),
        ccount=len(steps),
        edgecolor="black",
        linewidth=0.2,
    )
    axis.set_zlim(levels[0], levels[-1])
    longest = max(len(f"{level:.3g}") for level in levels)
    axis.set_xlabel("adversarial, ε", fontsize=TEXT, labelpad=8)
    axis.set_ylabel("random, ε", fontsize=TEXT, labelpad=8)
    axis.set_zlabel("loss, nats", fontsize=TEXT, labelpad=max(8, 3.5 * longest))
    axis.tick_params(labelsize=TEXT)
    axis.tick_params(axis="z", pad=1.5 * longest)
    for each in (axis.xaxis, axis.yaxis, axis.zaxis):
        each.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.set_box_aspect(None, zoom=0.82)


def _draw_contours(
    axis: Axes, loss: np.ndarray, steps: np.ndarray, levels: np.ndarray
) -> Any:
    """Draws white lines with a black rim, visible on light and on dark."""
    mesh = axis.pcolormesh(
        steps,
        steps,
        loss,
        cmap=_COLORS,
        vmin=levels[0],
        vmax=levels[-1],
        shading="gouraud",
        rasterized=True,  # its triangles would take megabytes in a vector file
    )
    inside = levels[(levels > loss.min()) & (levels < loss.max())]
    if inside.size:
        lines = axis.contour(steps, steps, loss, inside, colors="white", linewidths=1)
        lines.set_path_effects([withStroke(linewidth=2.5, foreground="black")])
        for text in axis.clabel(lines, inside[::2], fontsize=TEXT, fmt="%.3g"):
            text.set_path_effects([withStroke(linewidth=3, foreground="black")])
    axis.plot(
        [1, 0, -1, 0, 1],
        [0, 1, 0, -1, 0],
        "--",
        color="white",
        linewidth=2,
        path_effects=[withStroke(linewidth=4, foreground="black")],
    )
    axis.plot(0, 0, "o", color="white", markeredgecolor="black", markersize=9)
    ends = steps[0], steps[-1]
    axis.set(xlim=ends, ylim=ends)
    axis.tick_params(labelsize=TEXT)
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    return mesh
