"""What differs on TensorFlow: tapes, graphs, and replicas of `tf.distribute`."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config

from keras_free_adv.backends.final_operation import (
    AFFINE,
    SIGMOID,
    SOFTMAX,
    ModelOutputs,
)
from keras_free_adv.distribution.shared_overflow import shared_overflow
from keras_free_adv.distribution.workers import logs_of_workers

NAME = "tensorflow"

# The operations that end a layer without an activation.
_AFFINE = ("BiasAdd", "AddV2", "Add", "MatMul", "BatchMatMulV2", "Einsum")


def value_and_gradient(
    objective: Callable[[Any], tuple[Any, ...]], images: Any
) -> tuple[tuple[Any, ...], Any]:
    """One forward and one backward pass.

    Args:
        objective: maps images `[B, ...]` to a tuple whose first entry is the loss
            (a scalar, or one number for each example).
        images: `[B, ...]`.

    Returns:
        The objective's tuple, and the gradient of the (summed) loss, `[B, ...]`, or
        None if the loss does not depend on the images, or only by an operation for
        which TensorFlow knows no gradient.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        values = objective(images)
    return values, _gradient(tape, values[0], images)


def pullback(
    function: Callable[[Any], tuple[Any, ...]], images: Any
) -> tuple[tuple[Any, ...], Callable[[Any], Any]]:
    """One forward pass, and a function that makes a backward pass.

    Args:
        function: maps images `[B, ...]` to a tuple, whose first entry is followed back.
        images: `[B, ...]`.

    Returns:
        The function's tuple; and a function of weights, of the shape of the first
        entry, that returns the gradient of their product, summed, or None.
    """
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(images)
        values = function(images)
    return values, lambda weights: _gradient(
        tape, values[0], images, output_gradients=weights
    )


def _gradient(tape: tf.GradientTape, of: Any, images: Any, **settings: Any) -> Any:
    """The tape's gradient, or None if an operation on the way has none."""
    try:
        return tape.gradient(of, images, **settings)
    except LookupError as error:
        # What TensorFlow raises of an operation that it has no gradient for; a
        # KeyError or IndexError is a mistake in somebody's program.
        if type(error) is not LookupError:
            raise
        return None


def while_loop(condition: Callable, body: Callable, state: Any) -> Any:
    """Repeats `state = body(*state)` while `condition(*state)`; one operation."""
    return tf.while_loop(condition, body, state)


def on_rows(where: Any, function: Callable, arguments: Any, results: Any) -> Any:
    """Some rows of results, computed anew.

    Args:
        where: which rows, `[B]`, bool.
        function: maps arguments `[R, ...]`, those of these rows, to their results.
        arguments: any nest of `[B, ...]`.
        results: any nest of `[B, ...]`, what the other rows keep.
    """

    def some() -> Any:
        rows = tf.where(where)[:, 0]
        taken = tf.nest.map_structure(lambda a: tf.gather(a, rows), arguments)
        return tf.nest.map_structure(
            lambda old, new: tf.tensor_scatter_nd_update(old, rows[:, None], new),
            results,
            function(*taken),
        )

    return tf.cond(tf.reduce_any(where), some, lambda: results)


def element_by_element(function: Callable) -> Callable:
    """Has a function of hundreds of operations be one, its graph made only once.

    Args:
        function: takes tensors of int32 of any shapes that broadcast, and returns a
            tuple of tensors of the broadcast shape.
    """
    word = tf.TensorSpec(None, tf.int32)
    count = len(inspect.signature(function).parameters)
    graph = tf.function(function, input_signature=[word] * count, autograph=False)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        results = graph(*arguments)
        if not tf.executing_eagerly():
            shapes = [argument.shape for argument in arguments]
            shape = functools.reduce(tf.broadcast_static_shape, shapes)
            for result in results:
                result.set_shape(shape)
        return results

    return call


def compiled(
    function: Callable, model_of: Callable[[], Any], *, any_size: bool = True
) -> "_Graph":
    """Compiles a function of tensors, any nests of them, that calls a model.

    Args:
        function: takes tensors `[B, ...]` and scalars.
        model_of: returns the model; the compiled function must not keep it alive.
        any_size: whether one graph serves every B; else it is made for the first one.
    """
    del model_of  # a graph holds variables by reference
    return _Graph(function, any_size)


class _Graph:
    """A graph, made at the first call."""

    def __init__(self, function: Callable, any_size: bool) -> None:
        self._function = function
        self._any_size = any_size
        self._graph: Any = None

    def __call__(self, *arguments: Any) -> Any:
        arguments = tf.nest.map_structure(tf.convert_to_tensor, arguments)
        self.trace(*arguments)
        return self._graph(*arguments)

    def trace(self, *arguments: Any) -> None:
        """Makes the graph, and does not run it."""
        if self._graph is not None:
            return
        signature = tf.nest.map_structure(self._spec, arguments)
        # A partial is a function of its own to TensorFlow, which otherwise takes the
        # graphs of several attacks for one that is traced again and again.
        graph = tf.function(
            functools.partial(self._function),
            input_signature=signature,
            autograph=False,
        )
        graph.get_concrete_function()
        self._graph = graph

    def _spec(self, tensor: Any) -> tf.TensorSpec:
        shape = tensor.shape
        if self._any_size and len(shape):
            shape = (None, *shape[1:])
        return tf.TensorSpec(shape, tensor.dtype)


def is_symbolic(tensor: Any) -> bool:
    """Whether it is a tensor without values, inside a graph that is being made."""
    return tf.is_tensor(tensor) and not hasattr(tensor, "numpy")


def look_through(model: keras.Model, call: Callable[[], Any]) -> ModelOutputs:
    """The outputs of a call of the model, and the input of its final operation.

    Casts and copies do not count as operations. Outside of graphs, as when functions
    are run eagerly to debug them, the final operation cannot be seen.
    """
    del model
    outputs = call()
    if not hasattr(outputs, "op"):
        return ModelOutputs(outputs, None, None)
    operation = outputs.op
    while operation.type in ("Identity", "Cast", "StopGradient"):
        if operation.type == "StopGradient":
            return ModelOutputs(outputs, None, None)
        operation = operation.inputs[0].op
    looked_through = operation.type in (SOFTMAX, SIGMOID)
    return ModelOutputs(
        outputs,
        AFFINE if operation.type in _AFFINE else operation.type,
        operation.inputs[0] if looked_through else None,
    )


def outside_graphs() -> contextlib.AbstractContextManager:
    """Where variables have values, also while a graph is being made."""
    return tf.init_scope()


def replica_number() -> Any:
    """The number of the replica that a training step runs on."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


# What a model raises that does not take minibatches of this size.
WRONG_SIZE = (ValueError, TypeError, tf.errors.OpError)


def rounds_float32() -> bool:
    """Whether products of float32 are computed with fewer digits, as TensorFloat-32."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    return enabled and bool(tf.config.list_physical_devices("GPU"))


def deterministic() -> bool:
    """Whether `tf.config.experimental.enable_op_determinism()` was called.

    Relied on: `is_op_determinism_enabled`, which TensorFlow keeps to itself.
    """
    return bool(config.is_op_determinism_enabled())


def make_deterministic() -> None:
    """Has every operation give the same bits in every run; slower on a GPU."""
    tf.config.experimental.enable_op_determinism()


def versions() -> dict[str, str]:
    """The versions of the frameworks that compute."""
    return {"tensorflow": tf.__version__}


class ReplicaVariable:
    """A number or an array that training keeps beside the weights.

    Each replica of a strategy has a value of its own, so that none waits for the
    others. Neither Keras nor TensorFlow tracks it: it is not counted, saved or served
    with the model.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str, strategy: Any) -> None:
        # GPUs have no kernels for variables of int32.
        dtype = "int64" if dtype == "int32" else dtype
        with strategy.scope(), tf.init_scope():
            self._variable = tf.Variable(
                tf.zeros(shape, dtype),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.NONE,
            )
        self.locals = strategy.experimental_local_results(self._variable)

    def read(self, rows: Any = None) -> tf.Tensor:
        """The value on this replica, or its first rows, in a training step."""
        if rows is None:
            return tf.identity(self._variable)
        return self._variable[:rows]

    def write(self, value: Any, rows: Any = None) -> None:
        """Sets it on this replica, or its first rows, in a training step."""
        if rows is None:
            self._variable.assign(value)
        else:
            self._variable[:rows].assign(value)

    def values(self) -> np.ndarray:
        """The value of each replica of this worker, `[replicas, ...]`."""
        return np.stack([local.numpy() for local in self.locals])

    def set(self, values: np.ndarray) -> None:
        """Sets the value of each replica of this worker, between steps."""
        for local, value in zip(self.locals, values, strict=True):
            local.assign(value)


class LogsOfWorkers:
    """Keras' own steps, whose logs many workers can take the mean of.

    Natural training takes them; of an adversarial model `Trainer.train_step` comes
    before, whose logs are such already.
    """

    distribute_strategy: tf.distribute.Strategy

    def train_step(self, data: Any) -> dict[str, Any]:
        """As Keras', on many machines too."""
        logs = super().train_step(data)  # type: ignore[misc]
        return logs_of_workers(logs, self.distribute_strategy)

    def test_step(self, data: Any) -> dict[str, Any]:
        """As Keras', on many machines too."""
        logs = super().test_step(data)  # type: ignore[misc]
        return logs_of_workers(logs, self.distribute_strategy)


class Trainer:
    """How a step of training is called on TensorFlow, and its gradients."""

    optimizer: Any
    trainable_weights: list[Any]

    def train_step(self, data: Any) -> dict[str, Any]:
        """Keras calls it for each minibatch, in a graph, on each replica."""
        return self.update(data)  # type: ignore[attr-defined]

    def _gradients(
        self, loss_at: Callable[[Any], tuple[Any, Any]], delta: Any = None
    ) -> tuple[Any, Any, list[Any], Any]:
        """One forward and one backward pass, for the weights and for delta.

        Args:
            loss_at: maps delta to the loss and the model's outputs.
            delta: `[B, ...]`, or None.

        Returns:
            The loss, the outputs, and the gradients of the scaled loss with respect to
            the trainable weights and to delta.
        """
        with tf.GradientTape() as tape:
            if delta is not None:
                tape.watch(delta)
            loss, y_pred = loss_at(delta)
            scaled_loss = self.optimizer.scale_loss(loss)
        sources = (self.trainable_weights, [] if delta is None else delta)
        g_theta, g_delta = tape.gradient(scaled_loss, sources)
        return loss, y_pred, g_theta, g_delta

    def _apply(self, gradients: list[Any], weights: list[Any]) -> None:
        """One step of the optimizer."""
        gradients = shared_overflow(gradients, self.optimizer)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
