"""What every attack shares: its arguments, its call, its compiled restart."""

import random
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_free_adv import geometry, random_numbers, validation
from keras_free_adv.logits import (
    LogitView,
    call_in_inference_mode,
    check_from_logits,
    logit_view,
)

# About what a loss scale of 2**15 leaves for one example of a minibatch of 128.
FLOAT16_GRADIENT_SCALE = 256.0


class Outcome(NamedTuple):
    """What an attack made of B examples.

    Attributes:
        images: adversarial images, `[B, ...]`, float32.
        fooled: whether the attack reached its goal, `[B]`, bool.
        loss: the attack's loss at `images`, `[B]`.
    """

    images: Any
    fooled: Any
    loss: Any


def more_damaging(one: Outcome, other: Outcome) -> Outcome:
    """Per example, the one that fools the model, else the one of larger loss."""
    better = ops.logical_or(
        ops.logical_and(other.fooled, ops.logical_not(one.fooled)),
        ops.logical_and(
            ops.equal(other.fooled, one.fooled), ops.greater(other.loss, one.loss)
        ),
    )

    def choose(kept: Any, new: Any) -> Any:
        rank = len(kept.shape)
        mask = ops.reshape(better, (-1,) + (1,) * (rank - 1))
        return ops.where(mask, new, kept)

    return Outcome(*(choose(a, b) for a, b in zip(one, other, strict=True)))


class Target(NamedTuple):
    """The model under attack, as one restart sees it.

    Attributes:
        outputs: maps images `[B, ...]` to the model's outputs, in inference mode.
        logits: maps the outputs to logits `[B, C]`, float32.
        labels: the class of each example, `[B]`, int32.
        given_labels: the labels as the user gave them.
        gradient_scale: what to multiply a loss with before taking its gradient, so
            that small ones do not vanish in a float16 model.
    """

    outputs: Callable[[Any], Any]
    logits: LogitView
    labels: Any
    given_labels: Any
    gradient_scale: float


class Attack(keras.layers.Layer):
    """Base of the attacks: settings, not models.

    A subclass says in `restart` what one restart does; that is all an attack needs
    to work as a layer and in `evaluate_robustness`.

    Args:
        epsilon: radius of the ball, on the pixel scale.
        restarts: independent restarts, each on the examples the former left standing.
        norm: "linf" or "l2", of each example.
        targeted: whether labels are the classes to reach, not to leave.
        value_range: lowest and highest pixel value.
        from_logits: True, False or "auto"; see `keras_free_adv.logits`.
        seed: whole number; draws follow from (seed, example, restart). None draws one.
        name: name of the attack in reports.
    """

    def __init__(
        self,
        epsilon: float,
        *,
        restarts: int,
        norm: str,
        targeted: bool,
        value_range: tuple[float, float],
        from_logits: bool | str,
        seed: int | None,
        name: str,
    ) -> None:
        geometry.get_norm(norm)
        value_range = validation.pixel_range(value_range)
        epsilon = validation.ball_radius(epsilon, value_range, norm)
        restarts = validation.positive_integer("restarts", restarts)
        targeted = validation.boolean("targeted", targeted)
        from_logits = check_from_logits(from_logits)
        if seed is not None and not isinstance(seed, (int, np.integer)):
            raise TypeError(
                f"Argument `seed` must be a whole number or None. Received: {seed!r}."
            )
        # float32 whatever the global policy, and integers as they come.
        super().__init__(name=name, dtype="float32", autocast=False)
        self.epsilon = epsilon
        self.restarts = restarts
        self.norm = norm
        self.targeted = targeted
        self.value_range = value_range
        self.from_logits = from_logits
        self.seed = seed
        self.seed_in_use = random.randint(0, 2**31 - 1) if seed is None else int(seed)
        self._functions = _FunctionCache()
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "name": self.name,
            "epsilon": self.epsilon,
            "restarts": self.restarts,
            "norm": self.norm,
            "targeted": self.targeted,
            "value_range": self.value_range,
            "from_logits": self.from_logits,
            "seed": self.seed,
        }

    def restart(self, target: Target, images: Any, keys: Any) -> Outcome:
        """Attacks once, in graph code.

        Args:
            target: the model under attack.
            images: clean images `[B, ...]`, float32.
            keys: one random key an example, `[B, 2]`, of this restart.

        Returns:
            The best it found.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `restart`.")

    def __call__(
        self, images: Any, labels: Any = None, *, model: keras.Model | None = None
    ) -> Any:
        """Returns adversarial images; see the class."""
        if isinstance(images, (list, tuple)):
            images = np.asarray(images)
        if isinstance(labels, (list, tuple)):
            labels = np.asarray(labels)
        return super().__call__(images, labels, model=model)

    def call(
        self, images: Any, labels: Any = None, *, model: keras.Model | None = None
    ) -> Any:
        """What the layer does when it is called."""
        self._check_call(images, labels, model)
        images, labels = ops.convert_to_tensor(images), ops.convert_to_tensor(labels)
        pixels = ops.cast(images, "float32")
        view = self.view_of(model, pixels)
        self._check_classes(labels, view)
        ids = ops.arange(ops.shape(images)[0], dtype="int32")
        best = self.clean_outcome(model, view, pixels, labels)
        for number in range(self.restarts):
            found = self.run_restart(model, view, pixels, labels, ids, number)
            best = more_damaging(best, found)
        if not keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(images.dtype)
        ):
            return best.images
        return ops.cast(best.images, images.dtype)

    def compute_output_spec(
        self, images: Any, labels: Any = None, *, model: keras.Model | None = None
    ) -> Any:
        """Adversarial images have the shape of the images."""
        is_float = keras.backend.is_float_dtype(images.dtype)
        return keras.KerasTensor(
            images.shape, dtype=images.dtype if is_float else "float32"
        )

    # Pieces that `evaluate_robustness` puts together in its own order.

    def view_of(self, model: keras.Model, pixels: Any) -> LogitView:
        """How this attack obtains the logits of `model`; decided once for a model."""
        return self._functions.get(
            model,
            ("view",),
            lambda: logit_view(
                model,
                self.from_logits,
                pixels.numpy() if hasattr(pixels, "numpy") else pixels,
            ),
        )

    def logits(self, model: keras.Model, view: LogitView, images: Any) -> Any:
        """The model's logits, `[B, C]`, as this attack sees them."""

        @tf.function(autograph=False)
        def logits(images: Any) -> Any:
            return view(call_in_inference_mode(model, images))

        return logits(tf.convert_to_tensor(images, tf.float32))

    def clean_outcome(
        self, model: keras.Model, view: LogitView, images: Any, labels: Any
    ) -> Outcome:
        """No attack at all, `[B]`: the candidate every restart must beat."""

        def clean(target: Target, images: Any, keys: Any) -> Outcome:
            del keys
            outputs = target.outputs(images)
            return Outcome(images, *self.judge(target, outputs))

        ids = ops.arange(ops.shape(images)[0], dtype="int32")
        return self._compiled(model, view, images, labels, "clean", clean)(
            images, labels, ids, np.int32(0)
        )

    def run_restart(
        self,
        model: keras.Model,
        view: LogitView,
        images: Any,
        labels: Any,
        example_ids: Any,
        number: int,
    ) -> Outcome:
        """Restart `number`, compiled, for B examples numbered `example_ids` `[B]`."""
        run = self._compiled(model, view, images, labels, "restart", self.restart)
        return run(images, labels, example_ids, np.int32(number))

    def judge(self, target: Target, outputs: Any) -> tuple[Any, Any]:
        """Whether each example is fooled, `[B]`, and the attack's loss, `[B]`."""
        logits = target.logits(outputs)
        hit = ops.equal(ops.cast(ops.argmax(logits, -1), "int32"), target.labels)
        fooled = hit if self.targeted else ops.logical_not(hit)
        return fooled, self.loss_of(target, outputs, logits)

    def loss_of(self, target: Target, outputs: Any, logits: Any) -> Any:
        """What the attack maximizes, `[B]`."""
        raise NotImplementedError(f"{type(self).__name__} must define `loss_of`.")

    def _compiled(
        self,
        model: keras.Model,
        view: LogitView,
        images: Any,
        labels: Any,
        kind: str,
        attack: Callable[[Target, Any, Any], Outcome],
    ) -> Callable:
        """One graph a model and image shape; any number of examples."""
        images_spec = tf.TensorSpec((None,) + tuple(images.shape[1:]), tf.float32)
        labels_spec = tf.TensorSpec((None,) + tuple(labels.shape[1:]), labels.dtype)
        # The cache must not keep the model alive.
        model_of: Callable[[], Any] = weakref.ref(model)

        scaled = model.compute_dtype == "float16"

        def run(images: Any, labels: Any, ids: Any, number: Any) -> Outcome:
            keys = random_numbers.keys_of_examples(self.seed_in_use, ids, number)
            target = Target(
                lambda images: call_in_inference_mode(model_of(), images),
                view,
                class_numbers(labels),
                labels,
                FLOAT16_GRADIENT_SCALE if scaled else 1.0,
            )
            return attack(target, images, keys)

        signature = [
            images_spec,
            labels_spec,
            tf.TensorSpec((None,), tf.int32),
            tf.TensorSpec((), tf.int32),
        ]
        return self._functions.get(
            model,
            (kind, images_spec, labels_spec, view),
            lambda: tf.function(run, input_signature=signature, autograph=False),
        )

    def _check_call(self, images: Any, labels: Any, model: Any) -> None:
        if labels is None:
            raise ValueError(
                "Argument `labels` must be given: attack(images, labels, model=model). "
                "Received: labels=None. Pass the true classes"
                + (" to reach." if self.targeted else ".")
            )
        if model is None:
            raise ValueError(
                "Argument `model` must be given: attack(images, labels, model=model). "
                "Received: model=None."
            )
        if not isinstance(model, keras.Model):
            raise TypeError(
                "Argument `model` must be a keras.Model. Received: "
                f"{type(model).__name__}."
            )
        if _is_symbolic(images) or _is_symbolic(labels):
            return
        array = validation.image_array("images", images)
        validation.pixels_in_range("images", array, self.value_range)
        count = np.asarray(labels).shape[:1]
        if count != (len(array),):
            raise ValueError(
                "Arguments `images` and `labels` must hold the same number of "
                f"examples. Received: {len(array)} images and "
                f"{count[0] if count else 'one number for'} labels."
            )

    def _check_classes(self, labels: Any, view: LogitView) -> None:
        if not _is_symbolic(labels):
            check_classes(np.asarray(labels), view.classes)


def class_numbers(labels: Any) -> Any:
    """Class numbers `[B]`, int32, from numbers `[B]`, `[B, 1]` or one-hot `[B, C]`."""
    if len(labels.shape) == 2:
        if labels.shape[-1] == 1:
            labels = ops.squeeze(labels, -1)
        else:
            labels = ops.argmax(labels, -1)
    return ops.cast(labels, "int32")


def check_classes(labels: np.ndarray, classes: int) -> None:
    """Raises if `labels` are neither class numbers nor one-hot rows of `classes`."""
    one_hot = labels.ndim == 2 and labels.shape[1] == classes
    numbers = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    if labels.dtype.kind not in "fiub" or not (one_hot or numbers):
        raise ValueError(
            "Argument `labels` must hold class numbers, shape (batch,), or one-hot "
            f"rows, shape (batch, {classes}). Received: shape {labels.shape}, dtype "
            f"{labels.dtype}."
        )
    if numbers and labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"Argument `labels` must hold class numbers from 0 to {classes - 1}, the "
            f"model's classes. Received: numbers from {labels.min():g} to "
            f"{labels.max():g}."
        )


def _is_symbolic(tensor: Any) -> bool:
    return tf.is_tensor(tensor) and not hasattr(tensor, "numpy")


class _FunctionCache:
    """What was worked out for a model, forgotten with the model.

    A plain object, so that Keras tracks neither it nor the models.
    """

    def __init__(self) -> None:
        self._of_model: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def get(self, model: Any, key: Any, make: Callable[[], Any]) -> Any:
        known = self._of_model.setdefault(model, {})
        if key not in known:
            known[key] = make()
        return known[key]

    def __deepcopy__(self, memo: Any) -> "_FunctionCache":
        return _FunctionCache()

    def __reduce__(self) -> Any:
        return _FunctionCache, ()
