"""A model's input gradients, and whether they lead anywhere, in floating point."""

import math
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_free_adv import backends, image_axes
from keras_free_adv.attacks.loss_scale import loss_scale
from keras_free_adv.attacks.target import Target
from keras_free_adv.geometry import Ball
from keras_free_adv.logits import outputs_in_inference_mode
from keras_free_adv.model_cache import ModelCache
from keras_free_adv.predictions import Predictions

# From this margin of the logits on, no float32 holds another class's probability.
# Some kernels return the smallest float32 for it, others zero.
LARGEST_MARGIN = -float(np.log(np.finfo("float32").tiny))


def saturated_and_flat(
    model: keras.Model,
    view: Predictions,
    images: np.ndarray,
    classes: np.ndarray,
    logits: np.ndarray,
    graphs: ModelCache,
) -> tuple[np.ndarray, np.ndarray]:
    """Which images' gradients say nothing: of the cross-entropy, and of any loss.

    The cross-entropy's gradient has the factor 1 - p_y. When p_y is next to 1 it
    vanishes in floating point, and takes the gradient with it; that of the margin,
    which has no such factor, stays.

    Args:
        model: the classifier.
        view: what it predicts.
        images: `[B, ...]`, float32.
        classes: their classes, `[B]`, or labels, `[B, L]`, as `view.encoded` has them.
        logits: of the images, `[B, C]`.
        graphs: where to keep what is compiled.

    Returns:
        Whether each image is saturated (the margin has a gradient, and the
        cross-entropy has none that is more than rounding); and whether it is flat
        (the margin's is exactly zero or not finite, too); both `[B]`, bool.
    """
    of_loss, of_margin = (
        _leads_somewhere(input_gradients(model, view, loss, images, classes, graphs))
        for loss in (view.losses.cross_entropy, view.losses.margin)
    )
    margin = ops.convert_to_numpy(view.losses.margin(classes, logits))
    saturated = of_margin & (~of_loss | (-margin > LARGEST_MARGIN))
    return saturated, ~of_margin


def input_gradients(
    model: keras.Model,
    view: Predictions,
    loss: Callable[[Any, Any], Any],
    images: np.ndarray,
    classes: np.ndarray,
    graphs: ModelCache,
) -> np.ndarray:
    """The input gradient of each image's loss, as the attacks see it.

    Args:
        model: the classifier.
        view: what it predicts.
        loss: maps classes or labels, and logits `[B, C]`, to one number an example.
        images: `[B, ...]`, float32.
        classes: their classes, `[B]`, or labels, `[B, L]`.
        graphs: where to keep what is compiled.

    Returns:
        `[B, ...]`, float32: the loss for each unit of a pixel. Zero where the model
        has no gradient.
    """
    model_of: Callable[[], Any] = weakref.ref(model)
    scale = loss_scale(model)

    def gradient(images: Any, classes: Any) -> Any:
        target = Target(
            outputs=lambda images: outputs_in_inference_mode(model_of(), images),
            view=view,
            labels=classes,
            given_labels=classes,
            loss_scale=scale,
            ball=Ball(math.inf, "linf", (-math.inf, math.inf)),  # nothing is clipped
            data_format=image_axes.LAST,
            without_gradient="zero",
        )
        return target.gradient(
            lambda images: (loss(classes, target.logits(images)),), images
        )[1]

    compiled = graphs.get(
        model,
        (loss, view, images.shape[1:]),
        lambda: backends.compiled(gradient, model_of),
    )
    return ops.convert_to_numpy(compiled(images, classes.astype("int32")))


def _leads_somewhere(gradients: np.ndarray) -> np.ndarray:
    flat = gradients.reshape(len(gradients), -1)
    return np.isfinite(flat).all(-1) & (flat != 0).any(-1)
