"""The pixel scale of a model: which `value_range` its images have.

Everything that takes a `value_range` asks here. In this order decide

1. what the user says;
2. the `value_range` of the adversarial model around a network;
3. what the network's own first layers show, such as `Rescaling(1 / 255)`;
4. otherwise (0, 1).

Only what the user says can be wrong. Where the model plainly contradicts it, attacks
and exports would be of images that the model never sees: it is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_free_adv import backends, validation
from keras_free_adv.first_layers import Step, first_layers, unwrapped

Range = tuple[float, float]

UNIT_RANGE: Range = (0.0, 1.0)

# Ranges that images come in, and those that networks are fed with. A first layer is
# recognized if it maps one of the former to one of the latter.
_RANGES: tuple[Range, ...] = (
    (0.0, 1.0),
    (-1.0, 1.0),
    (0.0, 16.0),  # scikit-learn's digits
    (0.0, 255.0),
    (0.0, 65535.0),
)
_TARGETS: tuple[Range, ...] = (
    (0.0, 1.0),
    (-1.0, 1.0),
    (-0.5, 0.5),
    (-2.0, 2.0),
    (-127.5, 127.5),
    (0.0, 255.0),
)
# 1 / 256 and 1 / 128 stand for 1 / 255 and 1 / 127.5.
_TOLERANCE = 0.01
# A range that is wider or narrower by this factor is plainly another scale.
_PLAINLY_ANOTHER = 50.0
# A darker mean, as a share of the range, is not clearly one of pixels.
_DARKEST_MEAN = 0.04
# Layers that leave the scale as it is (as do all whose name begins with "Random").
_KEEPS_SCALE = {
    "Cast",
    "CenterCrop",
    "Cropping2D",
    "Dropout",
    "Flatten",
    "GaussianNoise",
    "GetItem",
    "Identity",
    "InputLayer",
    "Permute",
    "Reshape",
    "Resizing",
    "SpatialDropout2D",
    "ZeroPadding2D",
}


class Shown(NamedTuple):
    """What a model shows of its pixel scale.

    Attributes:
        value_range: lowest and highest pixel value.
        by: what shows it, in words.
        measured: whether a mean and a deviation of the data show it, and not a range:
            a wider one is then possible, of which most pixels use little.
    """

    value_range: Range
    by: str
    measured: bool = False


def resolve(
    value_range: Any, model: keras.Model, input_name: str | None = None
) -> Range:
    """The pixel range of `model`: what the user says, else what the model shows.

    Args:
        value_range: what the user says: (lowest, highest) pixel value, or None.
        model: any Keras model, built or not, adversarially trained or not.
        input_name: name of the input that holds the images, if there are several.

    Raises:
        ValueError: `value_range` is no range, or the model plainly contradicts it.

    Example:
    >>> network = keras.Sequential([keras.layers.Rescaling(1 / 255),
    ...                             keras.layers.Flatten(), keras.layers.Dense(10)])
    >>> resolve(None, network)
    (0.0, 255.0)
    """
    if value_range is not None:
        value_range = validation.pixel_range(value_range)
        check_agrees(value_range, model, input_name)
        return value_range
    trained_on = _range_of_training(model)
    if trained_on is not None:
        return trained_on
    shown = shown_by(model, input_name)
    return UNIT_RANGE if shown is None else shown.value_range


def resolve_for_all(value_range: Any, models: Mapping[str, keras.Model]) -> Range:
    """The one pixel range of several models, name to model.

    Raises:
        ValueError: they take pixels of different ranges; or as `resolve`.
    """
    ranges = {name: resolve(value_range, model) for name, model in models.items()}
    return the_same(ranges, "models", "Draw them one by one.")


def the_same(ranges: Mapping[str, Range], argument: str, remedy: str) -> Range:
    """Returns the range that all have, or raises; `ranges` is name to range."""
    found = set(ranges.values())
    if len(found) > 1:
        raise ValueError(
            f"Argument `{argument}` must be of one `value_range`, that of the images. "
            f"Received: {dict(ranges)}. {remedy}"
        )
    return found.pop()


def check_agrees(
    value_range: Range, model: keras.Model, input_name: str | None = None
) -> None:
    """Raises if the model plainly contradicts what the user says of its pixels."""
    trained_on = _range_of_training(model)
    witnesses = [
        trained_on and Shown(trained_on, "the `value_range` of its training"),
        shown_by(model, input_name),
    ]
    for shown in witnesses:
        if shown is not None and _contradicts(shown, value_range):
            raise ValueError(
                "Argument `value_range` must be the range of the pixels that the model "
                f"takes. Received: value_range={_told(value_range)}, for the model "
                f"{model.name!r}, which takes pixels in {_told(shown.value_range)}, as "
                f"{shown.by} shows. Pass value_range={_told(shown.value_range)}, with "
                "images and epsilon on that scale, or leave it out; if the images are "
                f"in {_told(value_range)}, take that layer away."
            )


def shown_by(model: keras.Model, input_name: str | None = None) -> Shown | None:
    """What the first layers of a model show of its pixel scale, or None."""
    affine = _Affine(np.ones(1), np.zeros(1))
    by: list[str] = []
    for step in first_layers(model, input_name):
        applied = _affine_of(step)
        if applied is None:
            if _standardizes_8_bit_pixels(step.operation) and affine.is_identity:
                return Shown((0.0, 255.0), _name_of(step.operation))
            if not _keeps_scale(step.operation):
                break
            continue
        composed = affine.then(applied)
        if composed is None:
            break
        affine = composed
        by.append(_name_of(step.operation))
        value_range = affine.range_mapped_to_a_target()
        if value_range is not None:
            return Shown(value_range, " and ".join(by))
    value_range = affine.range_of_statistics()
    if value_range is not None:
        return Shown(value_range, " and ".join(by), measured=True)
    return _shown_by_converter(model)


class _Affine(NamedTuple):
    """z = scale * x + offset, one of each for every channel, or one for all."""

    scale: np.ndarray
    offset: np.ndarray

    @property
    def is_identity(self) -> bool:
        apart = np.abs([self.scale - 1.0, self.offset])
        return bool(apart.max() <= _TOLERANCE)

    def then(self, other: "_Affine") -> "_Affine | None":
        """The two, one after the other, or None if they do not fit."""
        if len({1, len(self.scale), len(other.scale)}) > 2:
            return None
        return _Affine(
            self.scale * other.scale, self.offset * other.scale + other.offset
        )

    def range_mapped_to_a_target(self) -> Range | None:
        """The usual range of images that is mapped to a usual range of networks."""
        if self.is_identity or np.any(self.scale <= 0.0):
            return None
        for target in _TARGETS:
            for low, high in _RANGES:
                # Multiplied alone, a range about zero shows nothing: twice [-1, 1] is
                # a usual range, but whoever doubles pixels may have those of [0, 1].
                if low < 0.0 and not np.any(self.offset):
                    continue
                ends = np.stack([self.scale * end + self.offset for end in (low, high)])
                apart = np.abs(ends - np.array(target)[:, None]).max()
                if apart <= _TOLERANCE * (target[1] - target[0]):
                    return low, high
        return None

    def range_of_statistics(self) -> Range | None:
        """The range whose pixels have this mean and deviation: z = (x - mean) / dev."""
        if self.is_identity or np.any(self.scale <= 0.0):
            return None
        mean = -self.offset / self.scale
        largest_deviation = float((1.0 / self.scale).max())
        for high in (1.0, 255.0):
            fits = mean.min() >= 0.0 and largest_deviation <= high
            if fits and _DARKEST_MEAN * high <= mean.max() <= high:
                return 0.0, high
        return None


def _affine_of(step: Step) -> _Affine | None:
    """What an operation does to every pixel, or None if it does something else."""
    layer, kind = step.operation, type(step.operation).__name__
    if isinstance(layer, keras.layers.Rescaling):
        return _affine(layer.scale, layer.offset)
    if isinstance(layer, keras.layers.Normalization):
        return _affine_of_normalization(layer)
    if kind == "ImageConverter":  # of KerasHub, within a model
        return _affine_of_converter(layer)
    if kind in _ARITHMETIC and len(step.arguments) == 2:
        one, other = step.arguments
        if not isinstance(other, keras.KerasTensor):
            return _affine(*_ARITHMETIC[kind](_numbers(other)))
        if not isinstance(one, keras.KerasTensor) and kind in ("Add", "Multiply"):
            return _affine(*_ARITHMETIC[kind](_numbers(one)))
    return None


# What `images / 255` and the like are in a functional model: number to scale, offset.
_ARITHMETIC: dict[str, Callable[[np.ndarray], tuple[Any, Any]]] = {
    "Add": lambda number: (1.0, number),
    "Divide": lambda number: (1.0 / number, 0.0),
    "Multiply": lambda number: (number, 0.0),
    "Subtract": lambda number: (1.0, -number),
    "TrueDivide": lambda number: (1.0 / number, 0.0),
}


def _affine_of_normalization(layer: keras.layers.Normalization) -> _Affine | None:
    given = layer.input_mean is not None
    if not given and not layer.built:
        return None
    mean = _numbers(layer.input_mean if given else layer.adapt_mean)
    variance = _numbers(layer.input_variance if given else layer.adapt_variance)
    # As the layer guards a division by zero.
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    if layer.invert:
        return _affine(deviation, mean)
    return _affine(1.0 / deviation, -mean / deviation)


def _affine_of_converter(converter: Any) -> _Affine | None:
    scale, offset = (getattr(converter, name, None) for name in ("scale", "offset"))
    return _affine(1.0 if scale is None else scale, 0.0 if offset is None else offset)


def _affine(scale: Any, offset: Any) -> _Affine | None:
    """From numbers, or from arrays of one a channel."""
    scale, offset = _numbers(scale).ravel(), _numbers(offset).ravel()
    if len({1, len(scale), len(offset)}) > 2:
        return None
    if not (np.isfinite(scale).all() and np.isfinite(offset).all()):
        return None
    return _Affine(*np.broadcast_arrays(scale, offset))


def _numbers(values: Any) -> np.ndarray:
    # Out of a graph in which the model may just be called.
    with backends.outside_graphs():
        return np.asarray(keras.ops.convert_to_numpy(values), "float64")


def _keeps_scale(operation: Any) -> bool:
    kind = type(operation).__name__
    return kind in _KEEPS_SCALE or kind.startswith("Random")


def _standardizes_8_bit_pixels(layer: Any) -> bool:
    """Whether it is the zoo's `tf.image.per_image_standardization`.

    Its epsilon, 1 / n for an image of n values, is defined on the scale of 0 to 255.
    """
    if not isinstance(layer, keras.layers.LayerNormalization) or not layer.built:
        return False
    if layer.scale or layer.center:
        return False
    size = int(np.prod(layer.get_build_config()["input_shape"][1:]))
    return bool(np.isclose(layer.epsilon, 1.0 / size))


def _shown_by_converter(model: keras.Model) -> Shown | None:
    """What the preprocessor of a KerasHub task makes of 8-bit images.

    The task's network, which is attacked, is fed with the results.
    """
    converter = getattr(getattr(model, "preprocessor", None), "image_converter", None)
    affine = None if converter is None else _affine_of_converter(converter)
    if affine is None:
        return None
    ends = [affine.scale * end + affine.offset for end in (0.0, 255.0)]
    low, high = (float(end[0]) for end in ends)
    alike = all(np.allclose(end, end[0]) for end in ends)
    return Shown((low, high), _name_of(converter)) if alike and low < high else None


def _range_of_training(model: keras.Model) -> Range | None:
    """The range that an adversarial model is trained with."""
    value_range = getattr(model, "value_range", None)
    if unwrapped(model) is model or value_range is None:
        return None
    low, high = value_range
    return low, high


def _contradicts(shown: Shown, said: Range) -> bool:
    """Whether images of the one range are plainly none of the other."""
    width = shown.value_range[1] - shown.value_range[0]
    said_width = said[1] - said[0]
    if said_width * _PLAINLY_ANOTHER <= width:
        return True
    too_wide = said_width >= width * _PLAINLY_ANOTHER
    # Pixels of 16 bits may have a mean of 200; none have one of less than 1.
    return too_wide and not (shown.measured and width > 1.0)


def _name_of(layer: Any) -> str:
    kind, name = type(layer).__name__, getattr(layer, "name", "")
    if isinstance(layer, keras.layers.Rescaling):
        scale, offset = _in_words(layer.scale), _in_words(layer.offset)
        return f"{kind}(scale={scale}, offset={offset})"
    return f"{kind} {name!r}"


def _in_words(numbers: Any) -> str:
    return " ".join(f"{number:.4g}" for number in _numbers(numbers).ravel())


def _told(value_range: Range) -> str:
    return "({:g}, {:g})".format(*value_range)
