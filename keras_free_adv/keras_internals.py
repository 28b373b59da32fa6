"""The one place that leans on what Keras and TensorFlow do not promise.

Each function says what it relies on; tests/test_keras_internals.py fails when an
upgrade changes it.
"""

import inspect
from typing import Any

import keras
from keras import tree
from keras.src import api_export
from tensorflow.python.framework import config


def callbacks_of_this_fit() -> list[keras.callbacks.Callback]:
    """The callbacks that run in the same `fit`, in their order.

    To be called from a callback's hook. Keras gives a callback no reference to the
    list it is in; relied on: `keras.callbacks.CallbackList` calls the hook itself,
    and holds them as `callbacks`.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList):
            return list(caller.callbacks)
        frame = frame.f_back
    return []


def start_at_epoch(model: keras.Model, epoch: int | None) -> None:
    """Makes the running `fit` begin at `epoch`; None for its `initial_epoch`.

    Relied on: `fit` reads `_initial_epoch` after `on_train_begin`, as Keras' own
    BackupAndRestore needs it to.
    """
    model._initial_epoch = epoch


def checkpoint_counters(callback: keras.callbacks.ModelCheckpoint) -> list[Any]:
    """How far a ModelCheckpoint with a number as `save_freq` has counted.

    Relied on: that it counts updates in these two attributes.
    """
    return [callback._batches_seen_since_last_saving, callback._last_batch_seen]


def set_checkpoint_counters(
    callback: keras.callbacks.ModelCheckpoint, counters: list[Any]
) -> None:
    """Gives a ModelCheckpoint back what `checkpoint_counters` said."""
    callback._batches_seen_since_last_saving, callback._last_batch_seen = counters


def silence_checkpoint(callback: keras.callbacks.ModelCheckpoint) -> None:
    """Keeps a ModelCheckpoint from saving after updates, until it is set again."""
    callback._batches_seen_since_last_saving = -(2**62)


def loss_tracker(model: keras.Model) -> Any:
    """The metric behind the logged "loss".

    Relied on: it is the one of that name among a compiled model's `metrics`.
    """
    return next(metric for metric in model.metrics if metric.name == "loss")


def build_metrics(model: keras.Model, batch: Any) -> None:
    """Builds a compiled model's metrics and loss, as its first batch would.

    `batch` is (x, y[, sample_weight]) of anything with a shape and a dtype. Relied on:
    `_symbolic_build`, which every backend but TensorFlow calls before training.
    """
    model._symbolic_build(data_batch=batch)


class BuiltFromOneReplica(keras.Model):
    """A model that is built from one replica's share of the first minibatch.

    Keras, under a strategy, takes the mean of the replicas' shares, which fails when
    they are of different sizes, or on other machines (keras issue 20585). Relied on:
    `fit` and `evaluate` call `_maybe_symbolic_build`, and have built all that is
    named here when it returns.
    """

    def _maybe_symbolic_build(
        self, iterator: Any = None, data_batch: Any = None
    ) -> None:
        parts = (*self._flatten_layers(), self._compile_metrics, self._compile_loss)
        if all(part is None or part.built for part in parts):
            return
        if iterator is not None:
            _, _, minibatches = next(iter(iterator))
            data_batch = tree.map_structure(
                lambda value: self.distribute_strategy.experimental_local_results(
                    value
                )[0],
                next(minibatches),
            )
        super()._maybe_symbolic_build(data_batch=data_batch)


def calls_in_graph(model: keras.Model) -> list[Any]:
    """The calls of operations that a functional model is made of, or [].

    Each has `operation`, `arguments.args`, `input_tensors`, `outputs` and `is_input`.
    What an operation says of itself (`layer.input`) is of its first call, which may be
    in another model. Relied on: `_nodes_by_depth` of functional and Sequential models.
    """
    by_depth = getattr(model, "_nodes_by_depth", {})
    return [call for calls in by_depth.values() for call in calls]


def save_as(layer: type, name: str) -> None:
    """Makes Keras save objects of `layer` as those of its public class `name`.

    Such as "keras.layers.BatchNormalization", of which `layer` is a subclass with the
    same arguments and weights: the file then loads without the subclass. Relied on:
    the register that saving looks a class' public name up in, and that weights are
    filed under the name of the class.
    """
    api_export.REGISTERED_OBJS_TO_NAMES[layer] = name
    layer.__name__ = name.rpartition(".")[2]


def deterministic_ops() -> bool:
    """Whether `tf.config.experimental.enable_op_determinism()` was called.

    Relied on: `is_op_determinism_enabled`, which TensorFlow keeps to itself.
    """
    return bool(config.is_op_determinism_enabled())
