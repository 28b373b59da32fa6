"""What every attack shares: its arguments, its call, its compiled graphs."""

import inspect
import random
from typing import Any

import keras
from keras import ops

from keras_free_adv import backends, geometry, pixel_scale, validation
from keras_free_adv.attacks.compiled_attack import CompiledAttack
from keras_free_adv.attacks.outcome import Outcome, any_label, more_damaging
from keras_free_adv.attacks.target import Target
from keras_free_adv.compiled_loss import compiled_loss
from keras_free_adv.dense_data import require_dense, require_one_array
from keras_free_adv.model_cache import ModelCache
from keras_free_adv.predictions import (
    AUTO,
    Predictions,
    check_from_logits,
    check_predicts,
    predictions_of,
)
from keras_free_adv.user_warnings import warn_user


class Attack(keras.layers.Layer):
    """Base of the attacks: settings, not models.

    An attack makes one or more runs at an example (one for each restart, and each
    target class), and a run is a sequence of steps. A subclass says in `start` where a
    run begins, in `step` what a step does, and in `steps_of_a_run` how many there are:
    all it needs to work as a layer and in `evaluate_robustness`.

    Attributes:
        stops_when_fooled: whether a run ends as soon as the example is fooled, or
            goes on to a larger loss. (An evaluation always ends it.)
        white_box: whether it uses the model's gradient.
        data_format: which axis of the images holds the channels, for an attack that
            has to know; None for the model's own.
        graphs: what it has compiled, for each model.

    Args:
        epsilon: radius of the ball, on the pixel scale.
        restarts: independent restarts; the most damaging one counts. In an evaluation
            each is run on the examples that the previous ones left standing.
        norm: "linf" or "l2", of each example.
        targeted: whether labels are the classes to reach, not to leave.
        value_range: lowest and highest pixel value; None for the model's own, see
            `keras_free_adv.pixel_scale`.
        from_logits: True, False or "auto"; see `keras_free_adv.predictions`.
        predicts: "class", "labels" or "auto"; likewise.
        seed: whole number; draws follow from (seed, example, restart). None draws one.
        name: name of the attack in reports; None for the stem and the restarts.
        stem: what the field calls the attack.

    Example:
    >>> attack = PGDAttack(epsilon=0.1, steps=5)
    >>> isinstance(attack, Attack), attack.restarts, attack.white_box
    (True, 1, True)
    """

    stops_when_fooled = False
    white_box = True
    data_format: str | None = None

    def __init__(
        self,
        epsilon: float,
        *,
        restarts: int,
        norm: str,
        targeted: bool,
        value_range: tuple[float, float] | None,
        from_logits: bool | str,
        seed: int | None,
        name: str | None,
        stem: str,
        predicts: str = AUTO,
    ) -> None:
        geometry.get_norm(norm)
        if value_range is not None:
            value_range = validation.pixel_range(value_range)
        epsilon = validation.ball_radius(epsilon, value_range, norm)
        restarts = validation.positive_integer("restarts", restarts)
        targeted = validation.boolean("targeted", targeted)
        from_logits = check_from_logits(from_logits)
        predicts = check_predicts(predicts)
        seed = None if seed is None else validation.seed("seed", seed)
        if name is None:
            name = stem + _restarted(stem, restarts)
        elif not validation.text("name", name) or "/" in name:
            raise ValueError(
                "Argument `name` must be a name without a slash. Received: "
                f"name={name!r}."
            )
        # float32 whatever the global policy, and integers as they come.
        super().__init__(name=name, dtype="float32", autocast=False)
        self.epsilon = epsilon
        self.restarts = restarts
        self.norm = norm
        self.targeted = targeted
        self.value_range = value_range
        self.from_logits = from_logits
        self.predicts = predicts
        self.seed = seed
        self.seed_in_use = random.randint(0, 2**31 - 1) if seed is None else seed
        self.graphs = ModelCache()
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        # Left out where it says nothing: an attack of the user's need not know it.
        settled = {} if self.predicts == AUTO else {"predicts": self.predicts}
        return {
            "name": self.name,
            "epsilon": self.epsilon,
            "restarts": self.restarts,
            "norm": self.norm,
            "value_range": self.value_range,
            "from_logits": self.from_logits,
            "seed": self.seed,
            **settled,
        }

    def __repr__(self) -> str:
        """The class and its arguments; numbers are rounded."""
        config, shown = self.get_config(), []
        arguments = inspect.signature(type(self).__init__).parameters
        for name in [name for name in arguments if name in config]:
            value = getattr(self, name, config[name])  # objects as they are
            # A default of None says nothing.
            if value is not None or arguments[name].default is not None:
                text = f"{value:.4g}" if isinstance(value, float) else repr(value)
                shown.append(f"{name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"

    # A method: Keras' loader walks through attributes, and would never end.
    def parts(self) -> list["Attack"]:
        """The attacks this one consists of, each on what is left standing."""
        return [self]

    @property
    def steps_of_a_run(self) -> int:
        """How many steps a run makes if nothing ends it before."""
        name = type(self).__name__
        raise NotImplementedError(f"{name} must define `steps_of_a_run`.")

    def runs(self, classes: int) -> int:
        """How many runs it makes at an example, for a model of so many classes."""
        del classes
        return self.restarts

    def passes_of_a_step(self, classes: int) -> tuple[int, int]:
        """Forward and backward passes through the model in a step."""
        del classes
        return 1, 1

    def passes_of_a_start(self) -> int:
        """Forward passes through the model in `start`."""
        return 0

    def start(self, target: Target, images: Any, keys: Any, runs: Any) -> Any:
        """Where a run begins, in graph code.

        Args:
            target: the model under attack.
            images: clean images `[B, ...]`, float32.
            keys: one random key for each example, `[B, 2]`, of this run.
            runs: the number of each example's run, `[B]`, int32.

        Returns:
            What `step` needs to know of each example: any nest of `[B, ...]`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `start`.")

    def step(
        self, target: Target, images: Any, state: Any, step: Any
    ) -> tuple[Any, Outcome]:
        """One step, in graph code.

        Args:
            target: the model under attack.
            images: clean images `[B, ...]`, float32.
            state: what `start` or the last step returned.
            step: the number of each example's step, `[B]`, int32.

        Returns:
            The new state, and the outcome at the point the step looked at.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `step`.")

    def value_range_for(self, model: keras.Model) -> tuple[float, float]:
        """The pixel range of an attack on `model`: what was said, or the model's own.

        Raises:
            ValueError: the model contradicts what was said, or epsilon exceeds it.
        """

        def found() -> tuple[float, float]:
            value_range = pixel_scale.resolve(self.value_range, model)
            validation.ball_radius(self.epsilon, value_range, self.norm)
            return value_range

        return self.graphs.get(model, ("value_range",), found)

    def check_images(self, shape: tuple[int, ...], model: keras.Model) -> None:
        """Raises if it cannot attack images of this shape, `[B, ...]`; most can any."""
        del shape, model

    def check_labels(self, labels: Any, view: Predictions) -> None:
        """Raises if its loss does not fit labels of this shape; most fit any."""
        del labels, view

    def judge(self, target: Target, outputs: Any, logits: Any) -> tuple[Any, Any]:
        """Whether each example is fooled, as in `Outcome`, and the loss, `[B]`."""
        errs = target.errs(logits)
        fooled = ops.logical_not(any_label(errs)) if self.targeted else errs
        return fooled, self.loss_of(target, outputs, logits)

    def loss_of(self, target: Target, outputs: Any, logits: Any) -> Any:
        """What says, of two points that both fool the model or not, which is worse."""
        raise NotImplementedError(f"{type(self).__name__} must define `loss_of`.")

    def caveats(self, view: Predictions) -> list[str]:
        """What a user should know of this attack on a model with these predictions."""
        del view
        return []

    def __call__(
        self, images: Any, labels: Any = None, *, model: keras.Model | None = None
    ) -> Any:
        """Returns adversarial images; see the class."""
        require_dense("images", images)
        require_one_array("images", images)
        require_dense("labels", labels)
        images = validation.array_or_tensor("images", images)
        if labels is not None:
            labels = validation.array_or_tensor("labels", labels)
        return super().__call__(images, labels, model=model)

    def call(
        self, images: Any, labels: Any = None, *, model: keras.Model | None = None
    ) -> Any:
        """What the layer does when it is called."""
        self._check_call(images, labels, model)
        images, labels = ops.convert_to_tensor(images), ops.convert_to_tensor(labels)
        value_range = self.value_range_for(model)
        pixels = ops.clip(ops.cast(images, "float32"), *value_range)
        view = self.view_of(model, pixels, labels)
        if not backends.is_symbolic(labels):
            view.check_labels(labels)
        ids = ops.arange(ops.shape(images)[0], dtype="int32")
        for caveat in self.caveats(view):
            warn_user(caveat)
        found = pixels
        if images.shape[0] != 0:
            found = self.attacked(model, view, pixels, labels, ids).images
        if not keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(images.dtype)
        ):
            return found
        return ops.cast(found, images.dtype)

    def compute_output_spec(
        self, images: Any, labels: Any = None, *, model: keras.Model | None = None
    ) -> Any:
        """Adversarial images have the shape of the images."""
        is_float = keras.backend.is_float_dtype(images.dtype)
        return keras.KerasTensor(
            images.shape, dtype=images.dtype if is_float else "float32"
        )

    # Pieces that a call and `evaluate_robustness` put together, each in its own order.

    def view_of(self, model: keras.Model, pixels: Any, labels: Any) -> Predictions:
        """What `model` predicts; decided once for a model and a shape of labels."""
        return self.graphs.get(
            model,
            ("view", compiled_loss(model), tuple(labels.shape[1:])),
            lambda: predictions_of(
                model,
                pixels,
                labels,
                from_logits=self.from_logits,
                predicts=self.predicts,
            ),
        )

    def attacked(
        self, model: keras.Model, view: Predictions, images: Any, labels: Any, ids: Any
    ) -> Outcome:
        """The worst of no attack and every run, for B examples numbered `ids`."""
        compiled = self.compiled(model, view, images, labels)
        best, _ = compiled.clean(images, labels)
        for number in range(self.runs(view.alternatives + 1)):
            found = compiled.run(images, labels, ids, ops.full_like(ids, number))
            best = more_damaging(best, found)
        return best

    def compiled(
        self,
        model: keras.Model,
        view: Predictions,
        images: Any,
        labels: Any,
        without_gradient: str = "refuse",
        search_dtype: str = "float32",
    ) -> CompiledAttack:
        """The graphs of this attack on `model`; made once."""

        def compile_it() -> CompiledAttack:
            self.check_labels(labels, view)
            return CompiledAttack(self, model, view, without_gradient, search_dtype)

        key = (view, tuple(images.shape[1:]), tuple(labels.shape[1:]), labels.dtype)
        return self.graphs.get(
            model,
            (*key, without_gradient, search_dtype),
            compile_it,
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
        if backends.is_symbolic(images) or backends.is_symbolic(labels):
            return
        array = validation.image_array("images", images)
        self.check_images(array.shape, model)
        validation.pixels_in_range("images", array, self.value_range_for(model))
        count = validation.as_array(labels).shape[:1]
        if count != (len(array),):
            raise ValueError(
                "Arguments `images` and `labels` must hold the same number of "
                f"examples. Received: {len(array)} images and "
                f"{count[0] if count else 'one number for'} labels."
            )


def _restarted(stem: str, restarts: int) -> str:
    if restarts == 1:
        return ""
    return f"x{restarts}" if stem[-1].isdigit() else f"_x{restarts}"
