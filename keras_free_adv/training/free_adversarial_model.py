"""Free adversarial training: one gradient for the weights and for delta."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_free_adv import backends
from keras_free_adv.data.image_sizes import of_one_size
from keras_free_adv.data.minibatches import Minibatches
from keras_free_adv.distribution import padded_batch
from keras_free_adv.geometry import clip_pixels
from keras_free_adv.input_mask import zero_where_masked
from keras_free_adv.training.adversarial_model import AdversarialModel
from keras_free_adv.training.perturbation import Perturbation


@keras.saving.register_keras_serializable("keras_free_adv")
class FreeAdversarialModel(AdversarialModel):
    """Trains a Keras classifier to be robust, for the cost of natural training.

    The backward pass that updates the weights also gives the gradient for a
    perturbation delta, which persists from update to update. Each minibatch is
    replayed m times in a row, and the number of passes through the data is divided by
    m. At every update, with both gradients taken at the same point:

        g_theta, g_delta = grad loss(clip(x + delta), y, theta)
        theta <- theta - lr * g_theta                        # the compiled optimizer
        delta <- clip(delta + step_size * sign(g_delta), -epsilon, epsilon)

    Reference: Shafahi et al., "Adversarial Training for Free!", NeurIPS 2019,
    Algorithm 1 (arXiv 1904.12843).

    Args:
        model: the classifier, any `keras.Model` that trains with plain `fit`.
        epsilon: radius of the perturbation ball, on the pixel scale: 8 / 255 for
            images in [0, 1], 8 for images in 0..255.
        replays: how often each minibatch is used in a row (m in the paper).
        step_size: length of an ascent step, on the pixel scale; epsilon by default.
        norm: "linf", or "l2" (of each example).
        value_range: lowest and highest pixel value; None for the model's own, see
            `keras_free_adv.pixel_scale`.
        perturbed_input: name of the input that delta belongs to, when the model takes
            a dict of inputs.
        epsilon_warmup_steps: updates over which epsilon, and the steps with it, grow
            linearly to their size; 0 for none.
        **kwargs: of `keras.Model`.

    Raises:
        TypeError, ValueError: an argument is out of its range, or `model` cannot be
            trained through a wrapper.

    Example:
    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(10, activation="softmax")])
    >>> model = FreeAdversarialModel(network, epsilon=0.1, replays=2)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> images, labels = np.random.rand(64, 8, 8, 1), np.random.randint(0, 10, 64)
    >>> history = model.fit(images, labels, epochs=2, verbose=0)
    >>> model.delta.shape
    (1, 32, 8, 8, 1)
    """

    def __init__(
        self,
        model: keras.Model,
        epsilon: float,
        *,
        replays: int = 8,
        step_size: float | None = None,
        norm: str = "linf",
        value_range: tuple[float, float] | None = None,
        perturbed_input: str | None = None,
        epsilon_warmup_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model,
            epsilon,
            replays=replays,
            step_size=epsilon if step_size is None else step_size,
            norm=norm,
            value_range=value_range,
            perturbed_input=perturbed_input,
            epsilon_warmup_steps=epsilon_warmup_steps,
            **kwargs,
        )
        self._perturbation = Perturbation()

    @property
    def delta(self) -> np.ndarray | None:
        """The perturbation now, `[replicas, B, ...]`, or None before training.

        On many machines, of this worker's replicas.
        """
        return self._perturbation.value()

    def update(self, data: Any) -> dict[str, Any]:
        """One update of the weights and of delta, from one gradient."""
        x, _, _ = padded_batch.unpacked(data)
        images, ball, step_size = self._images_of(x), self._ball(), self._step_size()
        delta, visible = self._delta_of(images)

        def loss_at(delta: Any) -> tuple[Any, Any]:
            perturbed = clip_pixels(images + delta, self.value_range)
            y_pred = self._outputs_at(x, perturbed, training=True)
            return self._loss(data, y_pred), y_pred

        loss, y_pred, g_theta, g_delta = self._gradients(loss_at, delta)
        g_delta = zero_where_masked(self._require_gradient(g_delta), visible)
        self._update_weights(g_theta)
        delta = ball.ascend(delta, g_delta, step_size)
        self._perturbation.write(delta, ops.shape(images)[0])
        return self._logs(data, y_pred, loss)

    def _delta_of(self, images: Any) -> tuple[Any, Any]:
        """Delta of this minibatch, and which of its pixels the model does not mask."""
        visible = self._visible(images)
        delta = self._perturbation.read(ops.shape(images)[0])
        return zero_where_masked(delta, visible), visible

    def _kept_variables(self) -> list[backends.ReplicaVariable]:
        delta = self._perturbation.variable
        return super()._kept_variables() + ([] if delta is None else [delta])

    def _checked(self, source: Minibatches) -> Minibatches:
        return of_one_size(source, self._input.of)

    def _prepare(self, sample: tuple[Any, ...], rows: int) -> None:
        new = self._perturbation.resize(
            rows,
            self._perturbed_shape(sample),
            self._pixel_dtype,
            self._strategy,
        )
        if new:
            self.train_function = None  # it was traced with the old variable

    @property
    def _capacity(self) -> int:
        return self._perturbation.rows * self._replicas

    @property
    def _replayed_by_user(self) -> bool:
        return self.replays == 1

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "replays": self.replays}

    def save_own_variables(self, store: Any) -> None:
        """Saves delta of every replica, and the position in the stream.

        On many machines every worker has to save, each to a path of its own.
        """
        super().save_own_variables(store)
        delta = self._perturbation.all_replicas()
        if delta is not None:
            store["delta"] = delta

    def load_own_variables(self, store: Any) -> None:
        """Restores delta, now or as soon as training needs it, and the position."""
        super().load_own_variables(store)
        if "delta" in store.keys():  # noqa: SIM118 (an HDF5 group, not a dict)
            self._perturbation.restore(np.asarray(store["delta"]))
