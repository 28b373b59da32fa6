"""What every adversarially trained model shares: its stream, its place, its `fit`."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops, tree

from keras_free_adv import (
    geometry,
    input_mask,
    keras_internals,
    pixel_scale,
    validation,
)
from keras_free_adv.data import minibatches
from keras_free_adv.data.augmented import augmented
from keras_free_adv.data.bad_minibatches import BadMinibatches
from keras_free_adv.data.live_dataset import LiveDataset
from keras_free_adv.data.replayed_stream import replayed_part, replayed_stream
from keras_free_adv.data.structures import first_array
from keras_free_adv.dense_data import require_dense, require_one_array
from keras_free_adv.distribution import padded_batch, reductions, workers
from keras_free_adv.distribution.replica_statistics import (
    warn_of_statistics_that_drift,
)
from keras_free_adv.distribution.shared_overflow import shared_overflow
from keras_free_adv.distribution.workers import (
    explaining_loss_of_a_worker,
    logs_of_workers,
)
from keras_free_adv.training.chance_warner import ChanceWarner, chance_of
from keras_free_adv.training.data_checks import (
    check_finite,
    check_fit_arguments,
    check_images,
    check_labels,
)
from keras_free_adv.training.executions import executions_that_divide
from keras_free_adv.training.keyed_augmentation import KeyedAugmentation
from keras_free_adv.training.not_finite_warner import NotFiniteWarner
from keras_free_adv.training.passes_logger import PassesLogger
from keras_free_adv.training.perturbed_input import PerturbedInput
from keras_free_adv.training.py_dataset_epochs import PyDatasetEpochs
from keras_free_adv.training.random_head import RandomHead
from keras_free_adv.training.random_layers import RandomLayers
from keras_free_adv.training.stream_position import StreamPosition
from keras_free_adv.training.training_argument import (
    warn_of_layers_in_inference_mode,
)
from keras_free_adv.training.wrapped_model import WrappedModel
from keras_free_adv.user_warnings import warn_user


class AdversarialModel(WrappedModel):
    """Base of the models that train on perturbed images.

    A subclass says in `train_step` what one update is. This class gives it a stream
    in which each minibatch comes `replays` times in a row, and that goes on, in a
    second `fit` or after a restored backup, where it stopped.

    Args:
        model: the user's classifier.
        epsilon: radius of the perturbation ball, on the pixel scale.
        replays: how often each minibatch is used in a row (m in the paper).
        step_size: length of an ascent step, on the pixel scale.
        norm: "linf" or "l2".
        value_range: lowest and highest pixel value; None for what the model shows.
        perturb: the input to perturb, when the model takes a dict of inputs.
        epsilon_warmup: updates over which the ball grows to its size; 0 for none.
        **kwargs: of `keras.Model`.
    """

    # Of keras.Model, which has no annotations.
    train_function: Any
    test_function: Any
    predict_function: Any
    steps_per_execution: int

    def __init__(
        self,
        model: keras.Model,
        epsilon: float,
        *,
        replays: int,
        step_size: float,
        norm: str,
        value_range: tuple[float, float] | None,
        perturb: str | None,
        epsilon_warmup: int,
        **kwargs: Any,
    ) -> None:
        geometry.get_norm(norm)
        if value_range is not None:
            value_range = validation.pixel_range(value_range)
        epsilon = validation.ball_radius(epsilon, value_range, norm)
        step_size = validation.positive_number("step_size", step_size)
        replays = validation.positive_integer(
            "replays", replays, "m in the paper; 8 is a good choice for CIFAR-10."
        )
        epsilon_warmup = validation.whole_number("epsilon_warmup", epsilon_warmup)
        super().__init__(model, **kwargs)
        # Whether the model agrees is asked in `fit`: a file of one that did not, and
        # was trained so all the same, can be loaded.
        self.value_range = value_range or pixel_scale.resolve(None, model, perturb)
        self.epsilon = validation.ball_radius(epsilon, self.value_range, norm)
        self.replays = replays
        self.step_size = step_size
        self.norm = norm
        self.perturb = perturb
        self._input = PerturbedInput(perturb, model)
        self.epsilon_warmup = epsilon_warmup
        self._random_layers = RandomLayers(model, perturb)
        self._head: RandomHead | None = None  # of the model, when `fit` applies it
        self._position = StreamPosition()
        self._live = LiveDataset(lambda: self._position.update // self.replays)
        self._count: int | None = None  # minibatches in the data of the last `fit`
        self._data_begins = 0
        self._warned_of_few_passes = False

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "step_size": self.step_size,
            "norm": self.norm,
            "value_range": self.value_range,
            "perturb": self._input.lasting_name,
            "epsilon_warmup": self.epsilon_warmup,
        }

    # The images among the model's inputs.

    def _images_of(self, x: Any) -> Any:
        """The perturbed input, in float."""
        return ops.cast(self._input.of(x), self._pixel_dtype)

    def _with_images(self, x: Any, images: Any) -> Any:
        """`x`, its perturbed input replaced by `images`."""
        return self._input.put(x, images)

    def call(
        self, inputs: Any, training: bool | None = None, behind_head: bool = False
    ) -> Any:
        """Calls the user's model, or what is behind its random head."""
        if behind_head and self._head is not None:
            return self._head.call_rest(self._input.of(inputs), inputs)
        return super().call(inputs, training=training)

    def _outputs_at(self, x: Any, images: Any, *, training: bool) -> Any:
        """What the model predicts for `images` in the place of those in `x`.

        In `fit`, which has applied the model's random head to the clean images, they
        are images from behind it.
        """
        return self(self._with_images(x, images), training=training, behind_head=True)

    def _visible(self, images: Any) -> Any:
        """Which pixels of the clean images the model does not mask; None for all."""
        return input_mask.visible_pixels(self.model, images, self._input.number)

    @property
    def _replicas(self) -> int:
        """How many share a minibatch."""
        return self.distribute_strategy.num_replicas_in_sync

    @property
    def _pixel_dtype(self) -> str:
        """Perturbations keep full precision under every policy."""
        return "float64" if self.variable_dtype == "float64" else "float32"

    def _ball(self) -> dict[str, Any]:
        """Epsilon, step size and norm at this update, for the functions of geometry.

        Update number u of a warm-up over w has u / w of epsilon and of the step.
        """
        share: Any = 1.0
        if self.epsilon_warmup:
            number = ops.cast(self._position.number.read(), self._pixel_dtype) + 1.0
            share = ops.minimum(number / self.epsilon_warmup, 1.0)
        return {
            "step_size": share * self.step_size,
            "epsilon": share * self.epsilon,
            "norm": self.norm,
        }

    def _require_gradient(self, gradient: Any) -> Any:
        """Returns the gradient of the images, or raises if there is none."""
        if gradient is None:
            raise ValueError(
                "Argument `model` must depend on its input differentiably. Received: "
                f"{self.model.name!r}, whose loss has no gradient with respect to its "
                "input (None). Look for casts to integers, argmax, rounding, or "
                "keras.ops.stop_gradient between the input and the output."
            )
        return gradient

    def _update_weights(self, gradients: list[Any], weights: list[Any]) -> None:
        """One step of the compiled optimizer; of a frozen model, as Keras: none."""
        self._position.number.advance()
        if not weights:
            warn_user("The model does not have any trainable weights.")
            return
        gradients = shared_overflow(gradients, self.optimizer)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))

    def _scale_for_replicas(self, loss: Any, data: Any) -> Any:
        """A replica's loss, so that the sum over replicas is that of one device."""
        if not isinstance(data, padded_batch.PaddedBatch):
            return loss
        return loss * padded_batch.proportion(
            data, summed=reductions.are_summed(self.loss)
        )

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """As Keras'; but in training `_logs` logs the losses of single outputs."""
        if not training:
            return super().compute_loss(x, y, y_pred, sample_weight, training=False)
        with keras_internals.without_losses_of_outputs(self):
            return super().compute_loss(x, y, y_pred, sample_weight, training=True)

    def _logs(self, data: Any, y_pred: Any, loss: Any) -> dict[str, Any]:
        """Updates the metrics with a minibatch, and returns what they are now."""
        if len(loss.shape) > 0:  # reduction="none": each example's
            loss = ops.mean(loss) * padded_batch.proportion(data, summed=False)
        else:  # under a strategy the replica's part of a sum
            loss = loss * self._replicas
        tracker = keras_internals.loss_tracker(self)
        tracker.update_state(loss, sample_weight=padded_batch.weight_of_loss(data))
        self._log_losses_of_outputs(data, y_pred)

        def with_metrics() -> dict[str, Any]:
            x, y, y_counted, sample_weight = padded_batch.real_examples(data, y_pred)
            return self.compute_metrics(x, y, y_counted, sample_weight=sample_weight)

        if isinstance(data, padded_batch.PaddedBatch):
            # A metric of no examples may be no number.
            logs = tf.cond(
                padded_batch.real_count(data) > 0, with_metrics, self.get_metrics_result
            )
        else:
            logs = with_metrics()
        return logs_of_workers(logs, self.distribute_strategy)

    def _log_losses_of_outputs(self, data: Any, y_pred: Any) -> None:
        """Logs each output's loss so that, unweighted, they add up to the loss.

        Keras would count each minibatch alike, and the example too that a replica
        without any is given.
        """
        _, y, sample_weight = padded_batch.unpacked(data)
        found = keras_internals.losses_of_outputs(self, y, y_pred, sample_weight)
        for tracker, loss in found:
            summed = reductions.are_summed(self.loss)
            if len(loss.shape) > 0:  # reduction="none"
                loss = ops.mean(loss) / self._replicas
                summed = False
            tracker.update_state(
                loss * padded_batch.proportion(data, summed=summed),
                sample_weight=padded_batch.weight_of_loss(data),
            )

    # The stream and `fit`.

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> keras.callbacks.History:
        """Trains the model; takes and returns what `keras.Model.fit` does.

        Each minibatch is replayed `replays` times in a row, and `epochs=N` makes as
        many updates as natural training, over N / replays passes through the data
        (logged as `passes`). A second call goes on where the last one stopped.

        Random preprocessing layers at the head of the model are applied to the clean
        minibatch, once for all its replays, and what is behind them is trained. Random
        layers elsewhere are named in a warning.

        Raises:
            RuntimeError: the model is not compiled.
            TypeError, ValueError: the data cannot be replayed, or does not fit the
                model, its loss or `value_range`; raised before the first update.
        """
        self._require_compiled("fit")
        check_fit_arguments(
            x,
            epochs=epochs,
            initial_epoch=initial_epoch,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            validation_split=validation_split,
            class_weight=class_weight,
            sample_weight=sample_weight,
        )
        require_dense("x", x)
        require_one_array("x", x)
        require_dense("y", y)
        sample_weight = minibatches.weights_of_outputs(sample_weight, y)
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = minibatches.split_arrays(
                (x, y, sample_weight), validation_split
            )
        source = minibatches.minibatches(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            shuffle=shuffle,
            live=self._live,
        )
        source = self._checked(source)
        steps_per_epoch = _steps(source, steps_per_epoch)
        with (
            explaining_loss_of_a_worker(self.distribute_strategy),
            executions_that_divide(self, steps_per_epoch),
            self._leaving_nothing(),
        ):
            self._begin(source, epochs, initial_epoch, steps_per_epoch)
            if class_weight is not None:
                source = minibatches.weighted_by_class(source, class_weight)
            source = self._behind_head(source)
            bad = BadMinibatches()
            return super().fit(
                self._stream(source, bad),
                epochs=epochs,
                verbose=verbose,
                callbacks=self._with_own_callbacks(callbacks, source, bad, x),
                validation_data=validation_data,
                shuffle=False,
                initial_epoch=initial_epoch,
                steps_per_epoch=steps_per_epoch,
                validation_steps=validation_steps,
                validation_batch_size=validation_batch_size or batch_size,
                validation_freq=validation_freq,
            )

    def _stream(self, source: minibatches.Minibatches, bad: BadMinibatches) -> Any:
        """What Keras trains on."""
        strategy = self.distribute_strategy
        if source.part is None or not workers.many_workers(strategy):
            return replayed_stream(
                source,
                self.replays,
                self._position.current,
                self._capacity,
                bad,
                self._replicas,
            )
        part = padded_batch.WorkerSlice(
            source.rows,
            self._replicas,
            workers.worker_number(strategy),
            workers.worker_count(strategy),
        )
        return replayed_part(
            source, self.replays, self._position.current, bad, part, strategy
        )

    def _begin(
        self,
        source: minibatches.Minibatches,
        epochs: int,
        initial_epoch: int,
        steps_per_epoch: int,
    ) -> None:
        """Checks the data, makes room for it, and enters the stream."""
        self._check_data(source.sample)
        self._build_for(source.sample)
        warn_of_layers_in_inference_mode(self.model)
        self._train_behind(
            self._random_layers.head_in_fit(replayed_by_user=self._replayed_by_user)
        )
        if self._head is not None:  # minibatches may have another shape than the inputs
            with self.distribute_strategy.scope():
                self.build_metrics()
        if self._replicas > 1:
            reductions.require_one_kind(self.loss)
            warn_of_statistics_that_drift(self.model)
            # Keras would take a replica's share, which is no minibatch as it knows it.
            with self.distribute_strategy.scope():
                self.build_metrics()
        self._position.update = max(
            self._position.update, initial_epoch * steps_per_epoch
        )
        self._position.synchronize(self.distribute_strategy)
        before = self._enter_data(source.count)
        self._warn_of_few_passes(
            source.count, before + (epochs - initial_epoch) * steps_per_epoch
        )
        self._prepare(source.sample, rows=-(-source.rows // self._replicas))

    # The random head of the model.

    def _train_behind(self, head: RandomHead | None) -> None:
        """Trains what is behind a head that is applied to the data, or all."""
        if head is not self._head:
            self._head = head
            self.train_function = None  # it was traced with other layers

    def _augmentation(self) -> KeyedAugmentation | None:
        """The head as it is applied to clean minibatches."""
        if self._head is None:
            return None
        return KeyedAugmentation(self._head.layers, self.value_range, self._pixel_dtype)

    def _behind_head(self, source: minibatches.Minibatches) -> minibatches.Minibatches:
        """The minibatches, the head applied to each, once for all its replays."""
        augmentation = self._augmentation()
        if augmentation is None:
            return source
        # Built outside of the stream's graph.
        augmentation.shape_of(np.shape(self._input.of(source.sample[0]))[1:])
        return augmented(
            source,
            lambda x, key: self._with_images(x, augmentation(self._input.of(x), key)),
        )

    def _perturbed_shape(self, sample: tuple[Any, ...]) -> tuple[int, ...]:
        """The shape of one image where it is perturbed: behind the random head."""
        shape = np.shape(self._input.of(sample[0]))[1:]
        augmentation = self._augmentation()
        return shape if augmentation is None else augmentation.shape_of(shape)

    @property
    def _replayed_by_user(self) -> bool:
        """Whether the user may replay minibatches in a dataset of their own."""
        return False

    def _enter_data(self, count: int | None) -> int:
        """Begins other data on a whole replay; returns the updates made on this data.

        Other data is known by its number of minibatches.
        """
        if self._count is not None and count != self._count:
            self._position.update = (
                -(-self._position.update // self.replays) * self.replays
            )
            self._data_begins = self._position.update
            self._warned_of_few_passes = False
        self._count = count
        return self._position.update - self._data_begins

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Makes one update on one minibatch, as `keras.Model.train_on_batch` does.

        Replaying is the caller's: call it `replays` times with the same minibatch.
        """
        self._require_compiled("train_on_batch")
        require_dense("x", x)
        require_one_array("x", x)
        require_dense("y", y)
        sample = minibatches.as_arrays((x, y))
        self._check_data(sample)
        sample_weight = minibatches.weights_of_outputs(sample_weight, y)
        self._check_weights(sample, sample_weight)
        self._build_for(sample)
        self._random_layers.warn_on_batch()
        self._train_behind(None)
        self._prepare(sample, rows=len(first_array(sample)))
        return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)

    def make_train_function(self, force: bool = False) -> None:
        """Makes the compiled update, and has it count the place in the data."""
        if self.train_function is None or force:
            self._position.number.create(self.distribute_strategy)
            super().make_train_function(force=True)
            self.train_function = self._position.counting(self.train_function, self)

    def _prepare(self, sample: tuple[Any, ...], rows: int) -> None:
        """Called before training on minibatches of at most `rows` examples."""

    @property
    def _capacity(self) -> int | None:
        """The largest minibatch this model can train on, or None for any."""
        return None

    def _checked(self, source: minibatches.Minibatches) -> minibatches.Minibatches:
        """The source, with what this model needs of every minibatch checked."""
        return source

    def _check_data(self, sample: tuple[Any, ...]) -> None:
        x, y = sample[:2]
        self._input.check(x, type(self).__name__)
        pixel_scale.check_agrees(self.value_range, self.model, self.perturb)
        check_images(self._input.of(x), self.value_range, self.model)
        check_finite("y", y)
        check_labels(y, self.model, self.loss)
        check_finite("sample_weight", sample[2:])

    def _check_weights(self, sample: tuple[Any, ...], sample_weight: Any) -> None:
        weights = minibatches.as_arrays(sample_weight)
        check_finite("sample_weight", weights)
        examples = len(first_array(sample))
        for one in tree.flatten(weights):
            if one is not None and np.shape(one)[:1] != (examples,):
                raise ValueError(
                    "Argument `sample_weight` must have a weight for each example. "
                    f"Received: shape {np.shape(one)} for {examples} examples."
                )

    def build_metrics(self) -> None:
        """Builds the metrics before the first update, for a backup to be restored."""
        keras_internals.build_metrics(self, self._batch_spec())

    def _build_for(self, sample: tuple[Any, ...]) -> None:
        """Builds a model that is not built: only then can a backup be restored."""
        spec = tree.map_structure(
            lambda a: (
                None
                if a is None
                else keras.KerasTensor((None, *np.shape(a)[1:]), str(a.dtype))
            ),
            sample,
        )
        # In a function: Keras wraps the dicts of an attribute, and does not look into
        # them any more.
        self._batch_spec = lambda: spec
        if not self.built:
            with self.distribute_strategy.scope():
                self(self._with_images(*self._symbolic_inputs()))
        if self.train_function is None and len(tree.flatten(sample[1])) > 1:
            # Each output's loss has a metric, which the update finds there.
            with self.distribute_strategy.scope():
                self.build_metrics()

    def _symbolic_inputs(self) -> tuple[Any, Any]:
        x = self._batch_spec()[0]
        return x, keras.KerasTensor(self._input.of(x).shape, self._pixel_dtype)

    def _require_compiled(self, method: str) -> None:
        if not self.compiled:
            raise RuntimeError(
                f"The model must be compiled before `{method}`: call model.compile("
                "optimizer=..., loss=...) on the adversarial model, not on the one "
                "inside."
            )

    @contextlib.contextmanager
    def _leaving_nothing(self) -> Iterator[None]:
        """Afterwards a restored backup no longer says where `fit` begins."""
        try:
            yield
        finally:
            self._position.skip = 0
            keras_internals.start_at_epoch(self, None)

    def _warn_of_few_passes(self, count: int | None, updates: int) -> None:
        if count is None or self._warned_of_few_passes:
            return
        if updates < count * self.replays:
            self._warned_of_few_passes = True
            seen = updates / self.replays
            warn_user(
                f"This run ends after {updates} updates, {seen:g} minibatches of the "
                f"{count} in the data: with replays={self.replays} it sees "
                f"{seen / count:.0%} of them. Train for at least "
                f"{self.replays} epochs, or lower `replays`."
            )

    def _with_own_callbacks(
        self,
        callbacks: Any,
        source: minibatches.Minibatches,
        bad: BadMinibatches,
        x: Any,
    ) -> Any:
        count = source.count
        own: list[keras.callbacks.Callback] = [
            NotFiniteWarner(self._position, bad, self.replays, count)
        ]
        if count is not None:
            own.append(PassesLogger(self._position, count * self.replays))
            own += self._chance_warner(source, count)
        elif isinstance(x, keras.utils.PyDataset):
            own.append(PyDatasetEpochs(x))
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.callbacks[:0] = own
            for callback in own:
                callback.set_model(self)
            return callbacks
        return own + (tree.flatten(callbacks) if callbacks else [])

    def _chance_warner(
        self, source: minibatches.Minibatches, count: int
    ) -> list[ChanceWarner]:
        """One, if the labels are of one class each."""
        labels = source.sample[1]
        # The sample of arrays is all of them.
        are_all = len(first_array(source.sample)) > source.rows * (count - 1)
        chance = chance_of(labels, self.model, are_all=are_all)
        if chance is None:
            return []
        return [
            ChanceWarner(
                self._position, count * self.replays, source.rows / self.replays, chance
            )
        ]

    # The place in the data is saved with the model.

    def save_own_variables(self, store: Any) -> None:
        """Saves the place in the data."""
        super().save_own_variables(store)
        store["place"] = np.asarray(self._position.current(), "int64")
        store["updates_on_batches"] = np.asarray(
            self._position.updates_on_batches, "int64"
        )

    def load_own_variables(self, store: Any) -> None:
        """Restores the place in the data, if it was saved."""
        if "place" in store.keys():  # noqa: SIM118 (an HDF5 group, not a dict)
            before = self._position.seed
            self._position.seed, self._position.update = map(
                int, np.asarray(store["place"])
            )
            if self._position.seed != before and self.train_function is not None:
                self.make_train_function(force=True)  # traced with the old seed
        if "updates_on_batches" in store.keys():  # noqa: SIM118
            self._position.updates_on_batches = int(store["updates_on_batches"][()])


def _steps(source: minibatches.Minibatches, steps_per_epoch: int | None) -> int:
    """The updates of an epoch: what the user says, or one pass's minibatches."""
    steps = steps_per_epoch or source.count
    if steps is None:
        raise ValueError(
            "Argument `steps_per_epoch` must be given for data of unknown or infinite "
            "size. Received: steps_per_epoch=None. Pass the number of updates in an "
            "epoch, or apply tf.data.experimental.assert_cardinality(n)."
        )
    return steps
