"""Evaluates the loss of a model on a plane through an image."""

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_free_adv import geometry, random_numbers
from keras_free_adv.attacks.pgd_attack import PGDAttack
from keras_free_adv.evaluation.input_gradients import input_gradients
from keras_free_adv.predictions import Predictions

# Points of the plane that are evaluated at once.
_BATCH = 64


@dataclass(frozen=True)
class LossOnPlane:
    """The loss of one model on a plane through an image.

    Attributes:
        loss: `[random, adversarial]`, in nats, at the points of the plane.
        flat: whether there is no adversarial direction: the gradient is zero.
    """

    loss: np.ndarray
    flat: bool


def loss_on_plane(
    name: str,
    model: keras.Model,
    view: Predictions,
    images: np.ndarray,
    labels: np.ndarray,
    attack: PGDAttack,
    direction: str,
    steps: np.ndarray,
) -> LossOnPlane:
    """Evaluates the loss at `steps`, in units of epsilon, along both directions.

    Raises:
        ValueError: the loss is not finite.
    """
    if direction == "pgd":
        adversarial = ops.convert_to_numpy(attack(images, labels, model=model))
        toward = (adversarial - images) / attack.epsilon
    else:
        truth = ops.convert_to_numpy(view.encoded(labels))
        gradient = input_gradients(
            model, view, view.losses.cross_entropy, images, truth, attack.graphs
        )
        toward = ops.convert_to_numpy(geometry.get_norm("linf").direction(gradient))
    aside = _random_signs(images.shape, attack.seed_in_use)
    graphs = attack.compiled(model, view, images, labels, without_gradient="zero")
    coordinates = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    loss: list[np.ndarray] = []
    for a, b in _batches(coordinates.astype("float32"), images.ndim):
        points = images + attack.epsilon * (a * toward + b * aside)
        inside = np.clip(points, *attack.value_range_for(model))
        repeated = np.repeat(labels, len(inside), axis=0)
        loss.append(ops.convert_to_numpy(graphs.clean(inside, repeated)[0].loss))
    grid = np.concatenate(loss).reshape(len(steps), len(steps))
    wrong = int((~np.isfinite(grid)).sum())
    if wrong:
        raise ValueError(
            "Argument `models` must give a finite loss. Received: "
            f"{name!r}, whose loss is NaN or infinite at {wrong} of {grid.size} points."
            " Look for NaN among its weights."
        )
    return LossOnPlane(grid, flat=not toward.any())


def _random_signs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    key = random_numbers.key(seed)
    uniform = ops.convert_to_numpy(random_numbers.uniform(key, shape, "float32"))
    return np.where(uniform < 0.5, -1.0, 1.0).astype("float32")


def _batches(points: np.ndarray, rank: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The two coordinates of a few points at a time, each `[B, 1, ...]`."""
    for begin in range(0, len(points), _BATCH):
        a, b = points[begin : begin + _BATCH].T
        yield a.reshape(-1, *(1,) * (rank - 1)), b.reshape(-1, *(1,) * (rank - 1))
