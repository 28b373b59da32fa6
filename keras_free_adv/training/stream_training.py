"""Training on a stream of replayed minibatches, in Keras' own `fit`."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_free_adv import (
    keras_internals,
    pixel_scale,
)
from keras_free_adv.data import fit_data, minibatches
from keras_free_adv.data.arrays import as_arrays, split_arrays
from keras_free_adv.data.augmented import augmented
from keras_free_adv.data.bad_minibatches import BadMinibatches
from keras_free_adv.data.class_weights import weighted_by_class
from keras_free_adv.data.keyed_augmentation import KeyedAugmentation
from keras_free_adv.data.live_dataset import LiveDataset
from keras_free_adv.data.replayed_stream import replayed_slices, replayed_stream
from keras_free_adv.data.sample_weights import weights_of_outputs
from keras_free_adv.data.structures import BatchSpec, first_array
from keras_free_adv.dense_data import require_dense, require_one_array
from keras_free_adv.distribution import padded_batch, reductions, workers
from keras_free_adv.distribution.replica_statistics import (
    warn_of_statistics_that_drift,
)
from keras_free_adv.distribution.workers import explaining_lost_worker
from keras_free_adv.training.data_checks import (
    check_finite,
    check_fit_arguments,
    check_images,
    check_labels,
)
from keras_free_adv.training.executions import executions_that_divide
from keras_free_adv.training.own_callbacks import with_own_callbacks
from keras_free_adv.training.perturbed_input import PerturbedInput
from keras_free_adv.training.random_layers import RandomLayers
from keras_free_adv.training.random_stem import RandomStem
from keras_free_adv.training.stream_position import StreamPosition
from keras_free_adv.training.training_argument import (
    warn_of_layers_in_inference_mode,
)
from keras_free_adv.training.wrapped_model import WrappedModel
from keras_free_adv.user_warnings import warn_user


class StreamTraining(WrappedModel):
    """A wrapper whose `fit` gives each minibatch `replays` times in a row.

    The stream belongs to the model: a second `fit`, or one after a restored backup,
    continues it.

    Args:
        model: the user's classifier.
        replays: how often each minibatch is used in a row (m in the paper).
        perturbed_input: the input to perturb, when the model takes a dict of inputs.
        **kwargs: of `keras.Model`.
    """

    # Of keras.Model, which has no annotations.
    train_function: Any
    test_function: Any
    predict_function: Any
    steps_per_execution: int
    value_range: tuple[float, float]  # a subclass sets it
    # Whether Keras draws the minibatch of an update that is then passed over: the
    # backend's `Trainer` says so.
    _passing_over_draws = False

    def __init__(
        self,
        model: keras.Model,
        *,
        replays: int,
        perturbed_input: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, **kwargs)
        self.replays = replays
        self.perturbed_input = perturbed_input
        self._input = PerturbedInput(perturbed_input, model)
        self._random_layers = RandomLayers(model, perturbed_input)
        self._stem: RandomStem | None = None  # of the model, when `fit` applies it
        self._position = StreamPosition()
        self._live = LiveDataset(lambda: self._position.update // self.replays)
        self._count: int | None = None  # minibatches in the data of the last `fit`
        self._data_begins = 0
        self._warned_of_few_passes = False
        self._rows: int | None = None

    @property
    def minibatch_rows(self) -> int | None:
        """Examples in a minibatch of the last `fit`; None before one."""
        return self._rows

    @property
    def stream_position(self) -> StreamPosition:
        """Which update of the stream comes next."""
        return self._position

    # The images among the model's inputs.

    def _images_of(self, x: Any) -> Any:
        """The clean images, in float: the input that is to be perturbed."""
        return ops.cast(self._input.of(x), self._pixel_dtype)

    def _with_images(self, x: Any, images: Any) -> Any:
        """`x`, its perturbed input replaced by `images`."""
        return self._input.put(x, images)

    def call(
        self, inputs: Any, training: bool | None = None, behind_stem: bool = False
    ) -> Any:
        """Calls the user's model, or what is behind its random stem."""
        if behind_stem and self._stem is not None:
            # `training` reaches the layers by Keras' call context.
            return self._stem.call_rest(self._input.of(inputs), inputs)
        return super().call(inputs, training=training)

    def _outputs_at(self, x: Any, images: Any, *, training: bool) -> Any:
        """What the model predicts for `images` in the place of those in `x`.

        In `fit`, which has applied the model's random stem to the clean images, they
        are images from behind it.
        """
        return self(self._with_images(x, images), training=training, behind_stem=True)

    @property
    def _strategy(self) -> Any:
        """The `tf.distribute.Strategy` in force; None on other backends."""
        return workers.strategy_of(self)

    def _in_scope(self) -> contextlib.AbstractContextManager:
        """Where variables are made."""
        strategy = self._strategy
        return contextlib.nullcontext() if strategy is None else strategy.scope()

    @property
    def _replicas(self) -> int:
        """How many share a minibatch."""
        return workers.replica_count(self._strategy)

    @property
    def _pixel_dtype(self) -> str:
        """Perturbations keep full precision under every policy."""
        return "float64" if self.variable_dtype == "float64" else "float32"

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

        Random preprocessing layers at the input of the model are applied to the clean
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
        sample_weight = weights_of_outputs(sample_weight, y)
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = split_arrays(
                (x, y, sample_weight), validation_split
            )
        source = fit_data.minibatches_of(
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
            explaining_lost_worker(self._strategy),
            executions_that_divide(self, steps_per_epoch),
            self._leaving_nothing(),
        ):
            self._begin(source, epochs, initial_epoch, steps_per_epoch)
            if class_weight is not None:
                source = weighted_by_class(source, class_weight)
            source = self._behind_stem(source)
            bad = BadMinibatches()
            return super().fit(
                self._stream(source, bad),
                epochs=epochs,
                verbose=verbose,
                callbacks=with_own_callbacks(callbacks, self, source, bad, x),
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
        strategy = self._strategy
        if source.slices is None or not workers.many_workers(strategy):
            return replayed_stream(
                source,
                self.replays,
                self._stream_begins,
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
        return replayed_slices(
            source, self.replays, self._stream_begins, bad, part, strategy
        )

    def _stream_begins(self) -> tuple[int, int]:
        """The seed, and the update whose minibatch Keras draws first."""
        seed, update = self._position.current()
        return seed, update - self._position.skip * self._passing_over_draws

    def _begin(
        self,
        source: minibatches.Minibatches,
        epochs: int,
        initial_epoch: int,
        steps_per_epoch: int,
    ) -> None:
        """Checks the data, makes room for delta, and sees whether the data is new."""
        self._rows = source.rows
        self._check_data(source.sample)
        self._build_for(source.sample)
        warn_of_layers_in_inference_mode(self.model)
        self._train_behind(
            self._random_layers.stem_in_fit(replayed_by_user=self._replayed_by_user)
        )
        if self._stem is not None:  # minibatches may have another shape than the inputs
            with self._in_scope():
                self.build_metrics()
        if self._replicas > 1:
            reductions.require_one_kind(self.loss)
            warn_of_statistics_that_drift(self.model)
            # Keras would take a replica's share, which is no minibatch as it knows it.
            with self._in_scope():
                self.build_metrics()
        self._position.update = max(
            self._position.update, initial_epoch * steps_per_epoch
        )
        self._position.synchronize(self._strategy)
        before = self._enter_data(source.count)
        self._warn_of_few_passes(
            source.count, before + (epochs - initial_epoch) * steps_per_epoch
        )
        self._prepare(source.sample, rows=-(-source.rows // self._replicas))

    # The random stem of the model.

    def _train_behind(self, stem: RandomStem | None) -> None:
        """Trains what is behind a stem that is applied to the data, or all."""
        if stem is not self._stem:
            self._stem = stem
            self.train_function = None  # it was traced with other layers

    def _augmentation(self) -> KeyedAugmentation | None:
        """The stem as it is applied to clean minibatches."""
        if self._stem is None:
            return None
        return KeyedAugmentation(self._stem.layers, self.value_range, self._pixel_dtype)

    def _behind_stem(self, source: minibatches.Minibatches) -> minibatches.Minibatches:
        """The minibatches, the stem applied to each, once for all its replays."""
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
        """The shape of one image where it is perturbed: behind the random stem."""
        shape = np.shape(self._input.of(sample[0]))[1:]
        augmentation = self._augmentation()
        return shape if augmentation is None else augmentation.shape_of(shape)

    @property
    def _replayed_by_user(self) -> bool:
        """Whether the user may replay minibatches in a dataset of their own."""
        return False

    def _enter_data(self, count: int | None) -> int:
        """Returns the updates made on this data.

        New data, which is what has another number of minibatches, begins at the first
        replay of a minibatch: the position moves up to there.
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
        sample = as_arrays((x, y))
        self._check_data(sample)
        sample_weight = weights_of_outputs(sample_weight, y)
        self._check_weights(sample, sample_weight)
        self._build_for(sample)
        self._random_layers.warn_on_batch()
        self._train_behind(None)
        self._prepare(sample, rows=len(first_array(sample)))
        self.make_train_function()
        self._position.set_number(on_batch=True)
        return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)

    def make_train_function(self, force: bool = False) -> None:
        """Makes the compiled update, and has it advance the position."""
        if self.train_function is None or force:
            self._position.number.create(self._strategy)
            super().make_train_function(force=True)
            self.train_function = self._counted(self.train_function, self._position)

    def _counted(self, train_function: Callable, position: StreamPosition) -> Callable:
        """Wraps Keras' train function so that it counts the updates of a stream."""

        def counted(data: Any) -> dict[str, Any]:
            if position.passes_over(self):
                return self.get_metrics_result()
            logs = train_function(data)
            position.count(self)
            return logs

        return counted

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
        pixel_scale.check_agrees(self.value_range, self.model, self.perturbed_input)
        check_images(self._input.of(x), self.value_range, self.model)
        check_finite("y", y)
        check_labels(y, self.model, self.loss)
        check_finite("sample_weight", sample[2:])

    def _check_weights(self, sample: tuple[Any, ...], sample_weight: Any) -> None:
        weights = as_arrays(sample_weight)
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
        keras_internals.build_metrics(self, self._batch_spec.minibatch)

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
        self._batch_spec = BatchSpec(*spec)
        if not self.built:
            with self._in_scope():
                self(self._with_images(*self._symbolic_inputs()))
        if self.train_function is None and len(tree.flatten(sample[1])) > 1:
            # Each output's loss has a metric, which the update finds there.
            with self._in_scope():
                self.build_metrics()

    def _symbolic_inputs(self) -> tuple[Any, Any]:
        x = self._batch_spec.minibatch[0]
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

    # The position, "place" in files since the first release, is saved with the model.

    def save_own_variables(self, store: Any) -> None:
        """Saves the position in the stream."""
        super().save_own_variables(store)
        store["place"] = np.asarray(self._position.current(), "int64")
        store["updates_on_batches"] = np.asarray(
            self._position.updates_on_batches, "int64"
        )

    def load_own_variables(self, store: Any) -> None:
        """Restores the position in the stream, if it was saved."""
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
