"""The style of the pictures: readable on a slide, and in black and white."""

import io
import textwrap
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Distinct in black and white too.
STYLES = ("-o", "--s", "-.^", ":D", "-v", "--P", "-.X", ":*")
# In points, at the size of the figure.
TEXT, LABEL, TITLE = 12, 13, 14
CHARACTERS_AN_INCH = 9.5
RIGHT, WRONG = "#1b7837", "#b2182b"


def style(number: int) -> str:
    """The line style and marker of curve `number`."""
    return STYLES[number % len(STYLES)]


def finish_curves(axis: Axes, xlabel: str, ylabel: str, title: str = "") -> None:
    """Adds labels, a grid and a legend to an axis with curves."""
    axis.set_xlabel(xlabel, fontsize=LABEL)
    axis.set_ylabel(ylabel, fontsize=LABEL)
    axis.set_title(title, fontsize=TITLE)
    axis.tick_params(labelsize=TEXT)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=TEXT)


def show_image(axis: Axes, image: np.ndarray) -> None:
    """Draws one image with values in [0, 1], gray if it has one channel."""
    if image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    axis.imshow(np.clip(image, 0.0, 1.0), interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for side in axis.spines.values():
        side.set_visible(False)


def to_unit_range(images: Any, value_range: tuple[float, float]) -> Any:
    """Rescales pixels to [0, 1], for `show_image`."""
    low, high = value_range
    return (images - low) / (high - low)


def fitted(text: str, inches: float) -> str:
    """Wraps a title into lines of at most so many inches."""
    return textwrap.fill(text, max(int(CHARACTERS_AN_INCH * inches), 1))


def scale_of(value_range: tuple[float, float]) -> str:
    """Names the pixel scale, such as "pixels in [0, 1]"."""
    return "pixels in [{:g}, {:g}]".format(*value_range)


def png_of(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


class ShownFigure(Figure):
    """A figure that notebooks show; a plain one needs the state of pyplot."""

    def _repr_png_(self) -> bytes:
        return png_of(self)


def new_figure(
    width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """A figure that pyplot does not know, `width` by `height` inches."""
    return ShownFigure(figsize=(width, height), layout=layout)
