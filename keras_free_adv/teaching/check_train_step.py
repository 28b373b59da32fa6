"""Checks a student's update of Free training."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_free_adv.teaching.arrays import Mistake, alike, as_array, explain
from keras_free_adv.teaching.trained_example import (
    BATCH,
    EPSILON,
    LEARNING_RATE,
    STEP_SIZE,
    CountedPasses,
    delta_of,
    free_model,
    require_gradient_tape,
    sgd,
    trained_example,
)
from keras_free_adv.teaching.verdict import FoundError, Verdict, name_of, verdict_on
from keras_free_adv.training.free_adversarial_model import FreeAdversarialModel

_UPDATES = 3
_NOT_WATCHED = (
    "It stops at a None: a tape has no gradient of what it does not watch. delta is no "
    "variable: call tape.watch(delta) before delta is used."
)


def check_train_step(train_step: Callable[..., Any]) -> Verdict:
    """Checks one update of Free training (Shafahi et al. 2019, Algorithm 1).

        train_step(network, optimizer, images, labels, delta, epsilon, step_size)
            -> the new delta

    It updates the weights of `network` by `optimizer`, and returns the new delta. The
    loss is the mean sparse cross-entropy of the logits at clip(images + delta), pixels
    in [0, 1]. Weights, batch norm and delta are compared with those after
    `FreeAdversarialModel.train_on_batch`, and the passes are counted: one forward and
    one backward pass an update.

    Args:
        train_step: the student's function, of tensors; it may be a `tf.function`.

    Returns:
        A verdict.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.

    Example:
    >>> def train_step(network, optimizer, images, labels, delta, epsilon, step_size):
    ...     return delta
    >>> print(check_train_step(train_step))
    train_step: not yet
      - It makes no forward pass: call network(..., training=True).
      - The weights stay as they were: apply the gradients by the optimizer.
      - delta comes back as it was: step along the sign of its gradient, and return the
        new one.
    """
    require_gradient_tape("check_train_step")
    return verdict_on(name_of(train_step, "train_step"), lambda: _findings(train_step))


def _findings(train_step: Callable[..., Any]) -> Iterator[str]:
    truth, tried = trained_example(), trained_example()
    library = free_model(truth.network)
    for _ in range(2):  # makes delta other than zero
        library.train_on_batch(*truth.minibatch(1))
    optimizer = sgd(tried.network)
    for _ in range(_UPDATES):
        images, labels = truth.minibatch(0)
        weights, delta = truth.network.get_weights(), delta_of(library)
        library.train_on_batch(images, labels)
        update = _Update(
            library, images, labels, weights, truth.network.get_weights(), delta
        )
        expected = delta_of(library)

        tried.network.set_weights(weights)
        tried.passes.reset()
        try:
            returned = train_step(
                tried.network,
                optimizer,
                *map(ops.convert_to_tensor, (images, labels, delta)),
                EPSILON,
                STEP_SIZE,
            )
        except (AttributeError, TypeError, ValueError) as error:
            if "None" not in str(error):
                raise
            raise FoundError(_NOT_WATCHED) from error
        now = tried.network.get_weights()
        found = [
            *_check_passes(tried.passes),
            *_check_weights(update, now, tried.network),
            *_check_delta(update, returned, expected),
        ]
        if found:
            yield from found
            return


class _Update(NamedTuple):
    """An update of the library.

    Attributes:
        library: computes gradients; its network gets its weights back afterwards.
        images: images of the minibatch.
        labels: labels of the minibatch.
        before: the weights before the update.
        after: the weights after the update.
        delta: delta before the update.
    """

    library: FreeAdversarialModel
    images: np.ndarray
    labels: np.ndarray
    before: list[np.ndarray]
    after: list[np.ndarray]
    delta: np.ndarray

    def gradients(
        self,
        delta: np.ndarray,
        *,
        clipped: bool = True,
        training: bool = True,
        late: bool = False,
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Gradients of the weights and of delta; `late` ones at the new weights."""
        network = self.library.model

        def loss_at(delta: Any) -> tuple[Any, Any]:
            perturbed = self.images + delta
            if clipped:
                perturbed = ops.clip(perturbed, 0.0, 1.0)
            logits = network(perturbed, training=training)
            losses = ops.sparse_categorical_crossentropy(
                self.labels, logits, from_logits=True
            )
            return ops.mean(losses), logits

        network.set_weights(self.after if late else self.before)
        # Not public: it is how the library's own step asks, whatever the backend.
        _, _, of_weights, of_delta = self.library._gradients(
            loss_at, ops.convert_to_tensor(delta)
        )
        network.set_weights(self.after)
        gradients = [ops.convert_to_numpy(gradient) for gradient in of_weights]
        return gradients, ops.convert_to_numpy(of_delta)

    def updated(self, gradients: list[np.ndarray], rate: float) -> np.ndarray:
        """The trainable weights after a step of SGD, flat."""
        before = _trainable(self.library.model, self.before)
        gradient = np.concatenate([g.ravel() for g in gradients])
        return before - rate * gradient


def _check_passes(passes: CountedPasses) -> Iterator[str]:
    if not passes.forward:
        yield "It makes no forward pass: call network(..., training=True)."
    elif passes.forward > 1:
        yield (
            f"It makes {passes.forward} forward passes: Free training needs one, whose "
            "loss serves the weights and delta."
        )
    if passes.backward > 1:
        yield (
            f"It makes {passes.backward} backward passes: Free training is free because"
            " it makes one. Ask the tape once, for both: tape.gradient(loss, (weights, "
            "delta))."
        )


def _check_weights(
    update: _Update, now: list[np.ndarray], network: keras.Model
) -> Iterator[str]:
    result = _trainable(network, now)
    expected = _trainable(network, update.after)
    if not alike(result, expected):
        mistakes = _mistakes_of_weights(update, expected)
        yield explain(result, expected, mistakes, "The result for the weights")
    elif not alike(_others(network, now), _others(network, update.after)):
        yield (
            "The statistics of batch norm are not those of one pass in training mode: "
            "call network(..., training=True), once."
        )


def _mistakes_of_weights(update: _Update, expected: np.ndarray) -> list[Mistake]:
    delta, rate = update.delta, LEARNING_RATE
    right, of_delta = update.gradients(delta)
    new = _ascended(delta, of_delta)
    return [
        Mistake(
            update.updated(right, 0.0),
            "The weights stay as they were: apply the gradients by the optimizer.",
        ),
        Mistake(
            update.updated(right, -rate),
            "The weights go uphill: it is delta that climbs; the optimizer gets the "
            "gradients of the weights as they are.",
        ),
        Mistake(
            update.updated(update.gradients(np.zeros_like(delta))[0], rate),
            "The weights are updated at the clean images: add delta to them first.",
        ),
        Mistake(
            update.updated(update.gradients(new)[0], rate),
            "The weights are updated at the new delta: both gradients are taken at the "
            "old one, in one backward pass.",
        ),
        Mistake(
            update.updated(update.gradients(delta, clipped=False)[0], rate),
            "The network sees pixels outside the range: clip images + delta to "
            "[0, 1] on its way in.",
        ),
        Mistake(
            update.updated(update.gradients(delta, training=False)[0], rate),
            "The network runs in inference mode: call network(..., training=True).",
        ),
        Mistake(
            update.updated(right, BATCH * rate),
            "The weights go as many times too far as there are examples: the loss is "
            "their mean, not their sum.",
        ),
        Mistake(
            expected + (expected - update.updated(right, 0.0)),
            "The weights are updated twice by the same gradients.",
        ),
    ]


def _check_delta(update: _Update, returned: Any, expected: np.ndarray) -> Iterator[str]:
    # A delta of the wrong type or shape ends the check.
    result = as_array(returned, expected, "the new delta")
    _, gradient = update.gradients(update.delta)
    # Where the gradient is almost zero, its sign depends on rounding; where the images
    # are clipped, it is exactly zero.
    size = np.abs(gradient)
    sure = (size > 1e-4 * size.max()) | (size == 0)
    if not alike(result[sure], expected[sure]):
        mistakes = _mistakes_of_delta(update, gradient, expected)
        yield explain(result, expected, mistakes, "delta")


def _mistakes_of_delta(
    update: _Update, gradient: np.ndarray, expected: np.ndarray
) -> list[Mistake]:
    delta, images = update.delta, update.images
    step = STEP_SIZE * np.sign(gradient)
    _, unclipped = update.gradients(delta, clipped=False)
    _, late = update.gradients(delta, late=True)
    _, clean = update.gradients(np.zeros_like(delta))
    _, inference = update.gradients(delta, training=False)
    in_pixels = (
        "delta is clipped to [0, 1]: that is the range of *pixels*; delta is in "
        "[-epsilon, epsilon]."
    )
    return [
        Mistake(
            delta,
            "delta comes back as it was: step along the sign of its gradient, and "
            "return the new one.",
        ),
        Mistake(
            (delta - step).clip(-EPSILON, EPSILON),
            "delta goes downhill: the weights descend, and delta climbs; add the step.",
        ),
        Mistake(
            (delta + STEP_SIZE * gradient).clip(-EPSILON, EPSILON),
            "delta moves along the gradient itself: take its *sign*.",
        ),
        Mistake(
            delta + step,
            "delta leaves the ball: clip it to [-epsilon, epsilon] after the step.",
        ),
        Mistake(
            step,
            "delta is dropped, and begins at zero again: start the step from the delta "
            "that was passed in.",
        ),
        Mistake(
            (delta + EPSILON * np.sign(gradient)).clip(-EPSILON, EPSILON),
            "delta's step is epsilon long, not `step_size`.",
        ),
        Mistake(
            (delta + np.sign(gradient)).clip(-EPSILON, EPSILON),
            "delta's step is 1 long: multiply the sign by `step_size`.",
        ),
        Mistake(expected.clip(0, 1), in_pixels),
        Mistake((delta + step).clip(0, 1), in_pixels),
        Mistake(
            expected.clip(-images, 1 - images),
            "delta is clipped so that images + delta are pixels, the variant of Wong "
            "et al. (2020); in Shafahi et al. the network's input is clipped, and "
            "delta is kept as it is for the images to come.",
        ),
        Mistake(
            _ascended(delta, clean),
            "delta follows the gradient of the clean images: take it at images + "
            "delta.",
        ),
        Mistake(
            _ascended(delta, late),
            "delta follows the gradient at the *new* weights, from a second pass: both "
            "gradients are taken at once, at the old ones.",
        ),
        Mistake(
            _ascended(delta, unclipped),
            "delta moves where images + delta are outside the pixel range: clip them "
            "to [0, 1] inside the tape; delta has no gradient there, and stays.",
        ),
        Mistake(
            _ascended(delta, inference),
            "delta follows the gradient of inference mode: call network(..., "
            "training=True).",
        ),
    ]


def _ascended(delta: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return (delta + STEP_SIZE * np.sign(gradient)).clip(-EPSILON, EPSILON)


def _trainable(network: keras.Model, weights: list[np.ndarray]) -> np.ndarray:
    """The trainable ones, flat."""
    return _flat(network, weights, trainable=True)


def _others(network: keras.Model, weights: list[np.ndarray]) -> np.ndarray:
    return _flat(network, weights, trainable=False)


def _flat(
    network: keras.Model, weights: list[np.ndarray], *, trainable: bool
) -> np.ndarray:
    return np.concatenate(
        [
            values.ravel()
            for variable, values in zip(network.weights, weights, strict=True)
            if variable.trainable == trainable
        ]
    )
