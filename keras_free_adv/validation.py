"""Checks of what a user passes, made before any work starts.

Every message names the argument, says what was expected and what came, and how to
mend it.
"""

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from keras import ops

# Images may leave `value_range` by this share of its width: resizing and colour
# augmentation overshoot a little, a wrong pixel scale overshoots a lot.
RANGE_TOLERANCE = 0.01
# So far, at most, resampling overshoots: bicubic by 15% of the width, where two edges
# meet, and Lanczos' by a little more.
LARGEST_OVERSHOOT = 0.25

# Sizes and numbers of steps, in TensorFlow's graphs.
LARGEST_INTEGER = 2**31 - 1


def finite_number(name: str, value: Any, expected: str = "a finite number") -> float:
    """Returns `value` as a float, or raises if it is no finite real number."""
    is_number = isinstance(value, numbers.Real) or (
        isinstance(value, (np.generic, np.ndarray))
        and value.ndim == 0
        and (value.dtype.kind in "iuf" or "float" in value.dtype.name)
    )
    if not is_number or isinstance(value, (bool, np.timedelta64)):
        raise TypeError(
            f"Argument `{name}` must be {expected}. "
            f"Received: {name}={value!r} (of type {type(value).__name__})."
        )
    try:
        number = float(value)
    except OverflowError:  # of a Python integer
        number = math.inf
    except (TypeError, ValueError):  # of an array of one text
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"Argument `{name}` must be {expected}. Received: {name}={value!r}."
        )
    return number


def positive_number(name: str, value: Any, remedy: str = "") -> float:
    """Returns `value` as a float, or raises if it is not above zero."""
    number = finite_number(name, value, "a finite number above zero")
    if number <= 0:
        raise ValueError(
            f"Argument `{name}` must be a finite number above zero. "
            f"Received: {name}={value!r}. {remedy}".rstrip()
        )
    return number


def positive_integer(
    name: str, value: Any, remedy: str = "", *, most: int = LARGEST_INTEGER
) -> int:
    """Returns `value` as an int, or raises if it is no whole number above zero."""
    whole = isinstance(value, (numbers.Integral, np.integer)) and not isinstance(
        value, (bool, np.bool_, np.timedelta64)
    )
    if not whole or int(value) < 1:
        error = ValueError if isinstance(value, numbers.Real) else TypeError
        raise error(
            f"Argument `{name}` must be a whole number, 1 or more. "
            f"Received: {name}={value!r}. {remedy}".rstrip()
        )
    if int(value) > most:
        raise ValueError(
            f"Argument `{name}` must be a whole number from 1 to {most}. "
            f"Received: {name}={value!r}."
        )
    return int(value)


def not_negative(name: str, value: Any) -> float:
    """Returns `value` as a float, or raises if it is below zero."""
    number = finite_number(name, value)
    if number < 0:
        raise ValueError(
            f"Argument `{name}` must be a finite number, 0 or more. "
            f"Received: {name}={value!r}."
        )
    return number


def whole_number(name: str, value: Any) -> int:
    """Returns `value` as an int, or raises if it is no whole number, 0 or more."""
    zero = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return 0 if zero and value == 0 else positive_integer(name, value, "Or pass 0.")


def seed(name: str, value: Any) -> int:
    """Returns `value` as an int, or raises if it cannot be a seed."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(
            f"Argument `{name}` must be a whole number. Received: {name}={value!r} "
            f"(of type {type(value).__name__})."
        )
    if not -(2**63) <= int(value) < 2**63:
        raise ValueError(
            f"Argument `{name}` must be a whole number of at most 63 bits and a sign. "
            f"Received: {name}={value!r}."
        )
    return int(value)


def share(name: str, value: Any, remedy: str = "") -> float:
    """Returns `value` as a float, or raises if it is not between 0 and 1."""
    expected = "a share, a number above 0 and below 1"
    number = finite_number(name, value, expected)
    if not 0 < number < 1:
        raise ValueError(
            f"Argument `{name}` must be {expected}. "
            f"Received: {name}={value!r}. {remedy}".rstrip()
        )
    return number


def boolean(name: str, value: Any) -> bool:
    """Returns `value`, or raises if it is neither True nor False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(
            f"Argument `{name}` must be True or False. Received: {name}={value!r} "
            f"(of type {type(value).__name__})."
        )
    return bool(value)


def text(name: str, value: Any) -> str:
    """Returns `value`, or raises if it is no string."""
    if not isinstance(value, str):
        raise TypeError(
            f"Argument `{name}` must be a string. Received: {name}={value!r} (of type "
            f"{type(value).__name__})."
        )
    return str(value)


def mapping(name: str, value: Any) -> Mapping[str, Any]:
    """Returns `value`, or raises if it is no dict of names to values."""
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise TypeError(
            f"Argument `{name}` must be a dict of names to values. Received: "
            f"{name}={value!r}."
        )
    return value


def image_shape(
    name: str, value: Any, *, multiple: int = 1, least: int = 1
) -> tuple[int, int, int]:
    """Returns `value` as (height, width, channels), or raises.

    Args:
        name: of the argument.
        value: what was passed.
        multiple: what height and width must be multiples of.
        least: the smallest height and width.
    """
    listed = value.tolist() if isinstance(value, np.ndarray) else value
    whole = isinstance(listed, (tuple, list)) and all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in listed
    )
    shape = tuple(int(n) for n in listed) if whole else ()
    fits = len(shape) == 3 and min(shape) >= 1 and min(shape[:2]) >= least
    if not fits or any(n % multiple for n in shape[:2]):
        expected = f", with a height and a width that are multiples of {multiple}"
        if multiple == 1:
            expected = f", each {least} or more" if least > 1 else ""
        raise ValueError(
            f"Argument `{name}` must be (height, width, channels){expected}. "
            f"Received: {name}={value!r}."
        )
    return shape[0], shape[1], shape[2]


def one_of(name: str, value: Any, choices: Iterable[Any]) -> Any:
    """Returns the one of `choices` that `value` equals, or raises if there is none.

    The choice and not the value, so that 1 or `np.True_` becomes True where True is
    offered, and who asks `is True` is answered.
    """
    choices = list(choices)
    for choice in choices:
        if _equal(value, choice):
            return choice
    raise ValueError(
        f"Argument `{name}` must be one of {choices}. Received: {name}={value!r}."
    )


def _equal(value: Any, choice: Any) -> bool:
    same = value == choice
    # Of an array, `==` makes an array, which is neither true nor false.
    return isinstance(same, (bool, np.bool_)) and bool(same)


def pixel_range(value_range: Any) -> tuple[float, float]:
    """Returns `value_range` as two floats, low below high."""
    try:
        if isinstance(value_range, (set, frozenset, dict, str)):
            raise TypeError("it has no order")
        low, high = value_range
    except (TypeError, ValueError):
        raise ValueError(
            "Argument `value_range` must be a pair (lowest pixel value, highest pixel "
            "value), such as (0, 1) or (0, 255). Received: "
            f"value_range={value_range!r}."
        ) from None
    low = finite_number("value_range[0]", low)
    high = finite_number("value_range[1]", high)
    if not low < high:
        raise ValueError(
            "Argument `value_range` must be a pair (low, high) with low below high. "
            f"Received: value_range={value_range!r}."
        )
    return low, high


def ball_radius(
    epsilon: Any, value_range: tuple[float, float] | None, norm: str
) -> float:
    """Returns `epsilon` as a float, checked against the pixel scale if it is known.

    An L-infinity ball wider than the range holds every image; almost always it
    means that epsilon is on another pixel scale than the images.
    """
    radius = positive_number(
        "epsilon", epsilon, "For 8-bit images scaled to [0, 1] pass epsilon=8 / 255."
    )
    if value_range is None:
        return radius
    low, high = value_range
    if norm == "linf" and radius > high - low:
        raise ValueError(
            "Argument `epsilon` must not exceed the width of `value_range`. Received: "
            f"epsilon={epsilon!r}, value_range=({low:g}, {high:g}). For 8-bit images "
            "scaled to [0, 1] pass epsilon=8 / 255; for images in 0..255 pass "
            "value_range=(0, 255)."
        )
    return radius


def array_or_tensor(name: str, value: Any) -> Any:
    """Returns `value`, as an array if it is a list or the like, or raises."""
    of_numpy = isinstance(value, (np.ndarray, np.generic))
    if hasattr(value, "shape") and hasattr(value, "dtype") and not of_numpy:
        return value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # rows of different lengths, say
        array = np.asarray(None)
    if array.dtype.kind not in "fiub" and "float" not in array.dtype.name:
        raise TypeError(
            f"Argument `{name}` must be an array of numbers, or a tensor. Received: "
            f"{name} of type {type(value).__name__}."
        )
    return array


def as_array(value: Any) -> np.ndarray:
    """An array or a tensor, on whatever device, as a NumPy array."""
    return ops.convert_to_numpy(value) if ops.is_tensor(value) else np.asarray(value)


def image_array(name: str, images: Any) -> np.ndarray:
    """Returns `images` as a numeric NumPy array with a batch axis, or raises."""
    array = as_array(images)
    if array.dtype.kind not in "fiub" and "float" not in array.dtype.name:
        raise TypeError(
            f"Argument `{name}` must hold numbers (pixels). Received an array of "
            f"dtype {array.dtype}. Decode or vectorize the data first: free "
            "adversarial training perturbs numeric inputs."
        )
    if array.ndim < 2:
        raise ValueError(
            f"Argument `{name}` must have a batch axis and at least one more, such as "
            f"(batch, height, width, channels). Received: shape {array.shape}. For a "
            "single image pass image[np.newaxis]."
        )
    return array


def pixels_in_range(
    name: str, images: np.ndarray, value_range: tuple[float, float]
) -> None:
    """Raises if pixels are not finite, or lie clearly outside `value_range`."""
    if images.size == 0:
        return
    lowest, highest = float(images.min()), float(images.max())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise ValueError(
            f"Argument `{name}` must hold finite pixel values. Received NaN or "
            "infinite values; find them with np.isfinite(images)."
        )
    low, high = value_range
    slack = RANGE_TOLERANCE * (high - low)
    if lowest < low - slack or highest > high + slack:
        _refuse_overshoot(name, images, value_range)
        raise ValueError(
            f"Argument `{name}` must lie in `value_range`. Received pixels from "
            f"{lowest:g} to {highest:g} with value_range=({low:g}, {high:g}). Pass "
            "the range your images have, with epsilon on the same scale: "
            "value_range=(0, 255) and epsilon=8 for 8-bit images, or divide the "
            "images by 255. Standardize inside the model (a Normalization or "
            "Rescaling layer), not before it."
        )


def _refuse_overshoot(
    name: str, images: np.ndarray, value_range: tuple[float, float]
) -> None:
    """Raises if some pixels lie a little outside, as resampled images' do."""
    low, high = value_range
    outside = (images < low) | (images > high)
    distance = max(low - float(images.min()), float(images.max()) - high)
    if distance > LARGEST_OVERSHOOT * (high - low) or outside.mean() >= 0.5:
        return
    raise ValueError(
        f"Argument `{name}` must lie in `value_range`. Received pixels from "
        f"{images.min():g} to {images.max():g} with value_range=({low:g}, {high:g}), "
        f"and {outside.mean():.1%} of them outside. Resizing with "
        'interpolation="bicubic" or "lanczos3" overshoots like this: clip the images. '
        f"Of a dataset: dataset.map(lambda x, y: (tf.clip_by_value(x, {low:g}, "
        f"{high:g}), y)); of an array: np.clip(images, {low:g}, {high:g}). If they "
        "have another range, pass it as value_range, with epsilon on the same scale."
    )
