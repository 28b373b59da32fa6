"""A look at the model itself, beside the attacks on it."""

import contextlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_free_adv import backends
from keras_free_adv.attacks.loss_scale import compute_dtypes
from keras_free_adv.evaluation.input_gradients import saturated_and_flat
from keras_free_adv.evaluation.packing import all_standing
from keras_free_adv.logits import LOGITS, PROBABILITIES, outputs_in_inference_mode
from keras_free_adv.model_cache import ModelCache
from keras_free_adv.predictions import Predictions

# So many images are looked at: a share of 5% of them is 6.
LOOKED_AT = 128

# A model that draws one of n random numbers for the whole batch (a random resize)
# draws the same in all passes with a chance of 1 / n^3.
PASSES = 4

# Outputs count as changed if they differ by more than so many roundings, as a share
# of their range. Rounding all of an 18-layer network to bfloat16 moves its logits by
# up to 2 roundings, to float16 by up to 3.
ROUNDINGS = 8
ROUNDING = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
TENSOR_FLOAT_32_ROUNDING = 2.0**-11
LEAST_TOLERANCE = 1e-4

# The number below 1 in float32.
CERTAIN = 1.0 - 2.0**-24

# What was compiled, for a model that is evaluated again.
_GRAPHS = ModelCache()

# Maps images `[B, ...]` to logits `[B, C]` and outputs `[B, units]`.
Forward = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Probe:
    """What was seen of a model and its data.

    Attributes:
        source: how the logits were obtained; see `Predictions`.
        ignored: the final operation whose outputs are taken for logits; the same.
        largest_is_class: whether the largest of several outputs is the class; else
            each is a yes or no.
        shape: of an image.
        lowest_pixel: of the images looked at.
        highest_pixel: the same.
        most_frequent: the share of the most frequent class, or set of labels, among
            all labels.
        label_classes: how many different classes, or sets of labels, are among all
            labels.
        images: number of images looked at. The rest are counts of them.
        predicted_classes: how many different classes, or sets of labels, the model
            predicts for them.
        only_predicted: the class it predicts for every one of them, or None.
        labels_of_it: how many of all labels are of that class.
        lowest_output: of the model, probability or logit.
        highest_output: the same.
        shares: whether the outputs, as they are, could be probabilities.
        random: images whose outputs change from pass to pass.
        moved: images that were looked at again in another batch.
        changed_by_batch: of those, the ones whose outputs changed.
        correct: correctly classified images, whose gradients were taken.
        saturated: of those, the ones whose cross-entropy has lost its gradient in
            floating point, or whose probability is 1 in float32, or the number below.
        without_gradient: of those, the others whose gradient is exactly zero or not
            finite, whatever the loss.
    """

    source: str
    shape: tuple[int, ...]
    lowest_pixel: float
    highest_pixel: float
    most_frequent: float
    images: int
    label_classes: int = 2
    ignored: str | None = None
    largest_is_class: bool = True
    predicted_classes: int = 0
    only_predicted: int | None = None
    labels_of_it: int = 0
    lowest_output: float = float("nan")
    highest_output: float = float("nan")
    shares: bool = False
    random: int = 0
    moved: int = 0
    changed_by_batch: int = 0
    correct: int = 0
    saturated: int = 0
    without_gradient: int = 0


# Each attack's name to what was seen of the model, its logits obtained as the attack
# obtains them.
Probes = dict[str, Probe]


def probe(
    model: keras.Model,
    view: Predictions,
    images: np.ndarray,
    labels: Any,
    graphs: ModelCache = _GRAPHS,
) -> Probe:
    """Looks at a model and its data.

    Six forward passes, and two with a backward pass. What cannot be computed is
    left out: a look must not end an evaluation that the attacks survive.

    Args:
        model: the classifier.
        view: how its logits are obtained.
        images: the first images, `[B, ...]`, float32, of which at most 128 are used.
        labels: of all examples, those of `images` first.
        graphs: where to keep what is compiled, for a model that is evaluated again.

    Returns:
        A `Probe`.
    """
    images = images[:LOOKED_AT]
    truths = ops.convert_to_numpy(view.encoded(labels))
    counts = np.unique(truths, axis=0, return_counts=True)[1]
    data: dict[str, Any] = {
        "source": view.source,
        "ignored": view.ignored,
        "largest_is_class": not (view.one_unit or view.several_labels),
        "shape": images.shape[1:],
        "lowest_pixel": float(images.min()),
        "highest_pixel": float(images.max()),
        "most_frequent": float(counts.max() / counts.sum()),
        "label_classes": len(counts),
        "images": len(images),
    }
    found: dict[str, Any] = {}
    # Whatever fails here, the attacks meet as well, and say it better.
    with contextlib.suppress(Exception):
        forward = _forward(model, view, images, graphs)
        logits, outputs = forward(images)
        truth = truths[: len(images)]
        found.update(_of_outputs(view, logits, outputs))
        if not view.several_labels:
            found.update(_of_one_class(logits, truths))
        found.update(_of_repeats(model, view, images, graphs))
        # An image that comes out as NaN is no class, as for the attacks.
        right = all_standing(
            ~ops.convert_to_numpy(view.losses.are_wrong(truth, logits))
        )
        certain = found["shares"] & _are_certain(view, truth, outputs)
        # All of the images: a model may take minibatches of one size only.
        saturated, flat = saturated_and_flat(model, view, images, truth, logits, graphs)
        saturated, flat = (saturated | certain) & right, flat & right
        found["correct"] = int(right.sum())
        found["saturated"] = int(saturated.sum())
        found["without_gradient"] = int((flat & ~saturated).sum())
    return Probe(**data, **found)


def _of_outputs(
    view: Predictions, logits: np.ndarray, outputs: np.ndarray
) -> dict[str, Any]:
    """What one forward pass shows."""
    as_they_are = view.source in (LOGITS, PROBABILITIES)
    return {
        "predicted_classes": len(np.unique(_predicted(view, logits), axis=0)),
        "lowest_output": float(outputs.min()),
        "highest_output": float(outputs.max()),
        "shares": as_they_are and _are_shares(outputs, view),
    }


def _of_one_class(logits: np.ndarray, classes: np.ndarray) -> dict[str, Any]:
    """The class that every image is given, if it is one, and how many labels are."""
    predicted = np.unique(logits.argmax(-1))
    # Of NaN, argmax makes class 0.
    if len(predicted) > 1 or not np.isfinite(logits).all():
        return {}
    only = int(predicted[0])
    return {"only_predicted": only, "labels_of_it": int((classes == only).sum())}


def _of_repeats(
    model: keras.Model, view: Predictions, images: np.ndarray, graphs: ModelCache
) -> dict[str, int]:
    """What the same images show again, and in another batch."""
    # Of a softmax that is looked through, its input is compared; elsewhere the
    # outputs as they are, since the logarithm of a small probability is all rounding.
    column = int(view.source in (LOGITS, PROBABILITIES))
    forward = _forward(model, view, images, graphs)
    first, *others = (forward(images)[column] for _ in range(PASSES))
    half = np.arange(len(images))[::-2]
    elsewhere = _in_another_batch(model, view, images, half, graphs)[column]
    random = [_differ(model, first, other) for other in others]
    return {
        "random": int(np.logical_or.reduce(random).sum()),
        "moved": len(half),
        "changed_by_batch": int(_differ(model, first[half], elsewhere).sum()),
    }


def _in_another_batch(
    model: keras.Model,
    view: Predictions,
    images: np.ndarray,
    half: np.ndarray,
    graphs: ModelCache,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and outputs of the images numbered `half`, in a batch of them alone."""
    try:
        # Where a model takes minibatches of one size only, a graph of another size
        # mostly cannot be made. An operation that fails when it runs would have
        # TensorFlow write to the user's console ("Local rendezvous is aborting").
        return _forward(model, view, images, graphs, rows=len(half))(images[half])
    except backends.WRONG_SIZE:
        forward = _forward(model, view, images, graphs)
        repeated = np.resize(half, len(images))
        logits, outputs = forward(images[repeated])
        return logits[: len(half)], outputs[: len(half)]


def _forward(
    model: keras.Model,
    view: Predictions,
    images: np.ndarray,
    graphs: ModelCache,
    rows: int | None = None,
) -> Forward:
    """Maps images `[rows, ...]` to logits `[rows, C]` and outputs `[rows, units]`.

    `rows` is the only batch size that it takes; None for any.
    """
    model_of: Callable[[], Any] = weakref.ref(model)

    def both(images: Any) -> tuple[Any, Any]:
        outputs = outputs_in_inference_mode(model_of(), images)
        return view(outputs), ops.cast(outputs.values, "float32")

    compiled = graphs.get(
        model,
        (view, rows, images.shape[1:]),
        lambda: backends.compiled(both, model_of, any_size=rows is None),
    )

    def forward(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, outputs = compiled(images)
        return ops.convert_to_numpy(logits), ops.convert_to_numpy(outputs)

    return forward


def _differ(model: keras.Model, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether each row differs beyond rounding, `[B]`, bool."""
    finite = one[np.isfinite(one)]
    width = np.ptp(finite) if finite.size else 0.0
    with np.errstate(invalid="ignore"):
        return np.abs(other - one).max(-1) > _tolerance(model) * width


def _tolerance(model: keras.Model) -> float:
    """How much rounding may change outputs, as a share of their range."""
    exact = TENSOR_FLOAT_32_ROUNDING if backends.rounds_float32() else 0.0
    rounding = max(ROUNDING.get(dtype, exact) for dtype in compute_dtypes(model))
    return max(ROUNDINGS * rounding, LEAST_TOLERANCE)


def _are_shares(outputs: np.ndarray, view: Predictions) -> bool:
    """Whether each row could be probabilities. One number alone proves nothing."""
    if not (outputs.min() >= 0 and outputs.max() <= 1):
        return False
    units = outputs.shape[-1]
    if units == 1 or view.independent:
        return view.source == PROBABILITIES
    return np.allclose(outputs.sum(-1), 1.0, atol=units * 1e-3)


def _predicted(view: Predictions, logits: np.ndarray) -> np.ndarray:
    """The class of each image, `[B]`, or its labels, `[B, L]`."""
    return logits > 0 if view.several_labels else logits.argmax(-1)


def _are_certain(
    view: Predictions, truth: np.ndarray, outputs: np.ndarray
) -> np.ndarray:
    """Whether the probability of each image's class is 1 in float32, `[B]`.

    Vector instructions may round it to the number below.
    """
    if view.several_labels:
        return np.zeros(len(outputs), bool)
    if view.one_unit:
        outputs = np.concatenate([1.0 - outputs, outputs], axis=-1)
    return np.take_along_axis(outputs, truth[:, None], axis=-1)[:, 0] >= CERTAIN
