"""Which axis of images holds the channels: last, or first."""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_free_adv import validation
from keras_free_adv.first_layers import first_layers, unwrapped

LAST, FIRST = "channels_last", "channels_first"

# Layers behind which axes are no longer those of the images.
_MOVES_AXES = ("Flatten", "Permute", "Reshape", "Transpose")
# Numbers of channels of images; a fourth is transparency.
_CHANNELS = (1, 3, 4)


def checked(data_format: Any) -> str | None:
    """Returns `data_format`, or raises if it is neither a format nor None."""
    return validation.one_of("data_format", data_format, (LAST, FIRST, None))


def resolve(data_format: str | None, model: keras.Model) -> str:
    """The data format of a model's images: what the user says, else the model's own.

    The model's is that of its first layer that has one (a convolution, say). A model
    that shows none has that of `keras.config.image_data_format()`.

    Args:
        data_format: "channels_last", "channels_first", or None.
        model: any Keras model.

    Returns:
        "channels_last" or "channels_first".
    """
    return str(data_format or shown_by(model) or keras.config.image_data_format())


def shown_by(model: keras.Model) -> str | None:
    """The data format that the layers of a model show, or None."""
    for step in first_layers(model):
        if type(step.operation).__name__ in _MOVES_AXES:
            return None
        if found := getattr(step.operation, "data_format", None):
            return str(found)
    found_everywhere = set(_formats_of(model))
    # The order of a subclassed model's layers is unknown: they must agree.
    return found_everywhere.pop() if len(found_everywhere) == 1 else None


def to_last(images: Any, data_format: str) -> Any:
    """Images `[B, ...]` as `[B, height, width, channels]`."""
    if len(images.shape) == 3:
        return ops.expand_dims(images, -1)
    return images if data_format == LAST else ops.transpose(images, (0, 2, 3, 1))


def from_last(images: Any, data_format: str, rank: int) -> Any:
    """Images `[B, height, width, channels]` as they were, with `rank` axes."""
    if rank == 3:
        return ops.squeeze(images, -1)
    return images if data_format == LAST else ops.transpose(images, (0, 3, 1, 2))


def check_images(shape: tuple[int, ...], data_format: str) -> None:
    """Raises if the shape of images, `[B, ...]`, says that the format is the other.

    It does if the axis of the channels is longer than any number of channels, and the
    other one has a usual number.
    """
    if len(shape) != 4:
        return
    first, last = shape[1], shape[3]
    channels, other = (last, first) if data_format == LAST else (first, last)
    if channels is None or channels <= max(_CHANNELS) or other not in _CHANNELS:
        return
    right = FIRST if data_format == LAST else LAST
    raise ValueError(
        "Argument `data_format` must say which axis of `images` holds the channels. "
        f"Received: images of shape {tuple(shape)}, for data_format={data_format!r} "
        f"(given, the model's, or Keras' own). Pass data_format={right!r}."
    )


def _formats_of(model: keras.Model) -> Iterator[str]:
    """Those of all layers that keep the axes, in nested models too."""
    for layer in unwrapped(model).layers:
        if isinstance(layer, keras.Model):
            yield from _formats_of(layer)
        elif type(layer).__name__ not in _MOVES_AXES:
            found = getattr(layer, "data_format", None)
            if found:
                yield str(found)
