"""The one place that leans on what Keras and TensorFlow do not promise.

Each function says what it relies on; tests/test_keras_internals.py fails when an
upgrade changes it.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import tree
from keras.src import api_export
from keras.src.backend import distribution_lib
from keras.src.models import Functional

from keras_free_adv.backends.final_operation import (
    AFFINE,
    SIGMOID,
    SOFTMAX,
    ModelOutputs,
)


def callbacks_of_this_fit() -> list[keras.callbacks.Callback]:
    """The callbacks that run in the same `fit`, in their order.

    Must be called from a callback's hook. `fit` keeps its CallbackList in a local
    variable, and `set_model` and `set_params` hand a callback the model and numbers
    only, so that neither the callback, the model nor its History leads to the list.
    Relied on: `keras.callbacks.CallbackList` calls the hook itself, and holds them as
    `callbacks`.
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


def give_back_state(model: keras.Model, state: tuple[Any, ...]) -> None:
    """Gives a model on JAX its variables back, when a step of `fit` fails.

    `fit` takes the arrays out of the variables before the step, and without this a
    model that is refused in its first step has no weights left. Relied on: the order
    of the state, and that `fit` attaches the state of the last step that went well
    unless `_jax_state_synced` says that this was done.
    """
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    if any(array.is_deleted() for array in tree.flatten(state)):
        return  # the step took them over before it failed
    for variables, arrays in zip(groups, state, strict=True):
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
    model._jax_state_synced = True


def loss_tracker(model: keras.Model) -> Any:
    """The metric behind the logged "loss".

    Relied on: it is the one of that name among a compiled model's `metrics`.
    """
    return next(metric for metric in model.metrics if metric.name == "loss")


def own_metrics(model: keras.Model) -> list[Any]:
    """The metrics that a model and its layers made, without what `compile` made.

    Relied on: a model that is compiled lists those of `compile` by these names, and
    the metrics of a model within another model are not in the outer one's `metrics`.
    """
    compiled = [model._loss_tracker, model._compile_metrics]
    if model._compile_loss is not None:
        compiled += model._compile_loss.metrics
    return [
        metric for metric in model.metrics if all(metric is not c for c in compiled)
    ]


@contextlib.contextmanager
def without_losses_of_outputs(model: keras.Model) -> Iterator[None]:
    """Within, `compute_loss` does not log the losses of single outputs.

    Relied on: a compiled loss of several outputs hands each output's loss to
    `update_state` of one of its `metrics`.
    """
    with _losses_of_outputs(model):
        yield


def losses_of_outputs(
    model: keras.Model, y: Any, y_pred: Any, sample_weight: Any
) -> list[tuple[Any, Any]]:
    """The metric and the loss of each output; none for a model of one output.

    The loss is what Keras would log: not weighted by `loss_weights`, and in a replica
    the mean of its own examples, or the sum times the number of replicas. Relied on:
    as `without_losses_of_outputs`.
    """
    if not model._compile_loss or not model._compile_loss.metrics:
        return []
    with _losses_of_outputs(model) as found:
        model._compile_loss(y, y_pred, sample_weight)
    return found


@contextlib.contextmanager
def _losses_of_outputs(model: keras.Model) -> Iterator[list[tuple[Any, Any]]]:
    """Collects what Keras hands to the metrics of the outputs' losses."""
    found: list[tuple[Any, Any]] = []
    metrics = model._compile_loss.metrics if model._compile_loss else []
    for metric in metrics:
        vars(metric)["update_state"] = _collector(metric, found)
    try:
        yield found
    finally:
        for metric in metrics:
            del vars(metric)["update_state"]


def _collector(metric: Any, found: list[tuple[Any, Any]]) -> Callable[..., None]:
    def update_state(values: Any, sample_weight: Any = None) -> None:
        found.append((metric, values))

    return update_state


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


def sharding_of(shape: tuple[int, ...], distribution: Any) -> Any:
    """Where JAX puts an array of data: shared by the devices, or on each of them.

    An array whose rows the devices cannot share evenly is on each. Relied on:
    `backend_layout`, the sharding of a Keras layout.
    """
    spread = distribution.get_data_layout(shape).backend_layout if shape else None
    if spread is not None and shape[0] % spread.mesh.shape[spread.spec[0]] == 0:
        return spread
    mesh = distribution.device_mesh
    everywhere = keras.distribution.TensorLayout([None] * len(shape), mesh)
    return everywhere.backend_layout


@contextlib.contextmanager
def uneven_minibatches() -> Iterator[None]:
    """Lets Keras train on JAX with minibatches that devices cannot share evenly.

    Keras 3.15 gives each array the sharding of the first minibatch, and JAX refuses
    one with other rows. Such a minibatch is put on each device: the result is the same.
    Relied on: the trainer calls `distribute_data_input` of this module.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        yield
        return
    original = distribution_lib.distribute_data_input

    def placed(array: Any, layout: Any, batch_dim_name: str) -> Any:
        sharding = sharding_of(array.shape, distribution)
        if sharding.is_fully_replicated:
            layout = sharding
        return original(array, layout, batch_dim_name)

    distribution_lib.distribute_data_input = placed
    try:
        yield
    finally:
        distribution_lib.distribute_data_input = original


class BarWithEstimate(keras.utils.Progbar):
    """A progress bar of steps that do not take equally long.

    Relied on: what is left is `_estimate_step_duration` times the steps that are left;
    an entry of `_values` that is not a list is shown as it is.

    Attributes:
        seconds_left: what the bar says is left; None for Keras' own estimate.
    """

    seconds_left: float | None = None

    def say(self, name: str, text: str) -> None:
        """Shows a text among the values of the next update."""
        if name not in self._values_order:
            self._values_order.append(name)
        self._values[name] = text

    def _estimate_step_duration(self, current: Any, now: float) -> float:
        if self.seconds_left is None or self.target is None or current >= self.target:
            return super()._estimate_step_duration(current, now)
        return self.seconds_left / (self.target - current)


def is_functional(layer: Any) -> bool:
    """Whether calling `layer` runs a graph of layers, and nothing else.

    Relied on: the class of functional models, which Keras does not export.
    """
    return isinstance(layer, Functional) and type(layer).call is Functional.call


def layers_inside(layer: Any, *, recursive: bool) -> Iterator[Any]:
    """The layers that a layer or a model holds, in any attribute.

    Relied on: `_flatten_layers`.
    """
    yield from layer._flatten_layers(include_self=False, recursive=recursive)


def draw_from(layer: Any, generator: keras.random.SeedGenerator) -> None:
    """Makes a random preprocessing layer, and those in it, draw from `generator`.

    Relied on: these layers draw by the `next()` of their attribute `generator`, or in
    tf.data on another backend of one in `_backend_generators`. They are set past Keras'
    tracking, which would take them for one more state of the layer.
    """
    for one in (layer, *layers_inside(layer, recursive=True)):
        if hasattr(one, "generator"):
            vars(one)["generator"] = generator
            vars(one)["_backend_generators"] = {"tensorflow": generator}


def calls_between(inputs: list[Any], outputs: list[Any]) -> list[Any]:
    """The calls that lead from symbolic inputs to outputs, in their order.

    As `calls_in_graph`, without those that are inputs. Relied on: the outputs' calls
    are at depth 0.
    """
    by_depth = keras.Function(inputs, outputs)._nodes_by_depth
    calls = [by_depth[depth] for depth in sorted(by_depth, reverse=True)]
    return [call for each in calls for call in each if call.input_tensors]


def call_again(call: Any, value: Any) -> Any:
    """Repeats a call of one tensor, on another one.

    Relied on: `fill_in`, with which a `keras.Function` gives a node its arguments.
    """
    (tensor,) = call.input_tensors
    args, kwargs = call.arguments.fill_in({id(tensor): value})
    return call.operation(*args, **kwargs)


def inputs_of_masking_layers(
    layer: keras.layers.Layer, values: Any
) -> list[tuple[keras.layers.Masking, Any]]:
    """Each Masking layer that runs when `layer(values)` does, with its input.

    For layers and models whose `call` is Python, without a graph to read. Relied on:
    `_flatten_layers`, and that calling a layer looks up `call` on the object.
    """
    masking = [
        inner
        for inner in layer._flatten_layers()
        if isinstance(inner, keras.layers.Masking)
    ]
    if not masking:
        return []
    seen: list[tuple[keras.layers.Masking, Any]] = []

    def recorded(inner: keras.layers.Masking) -> Any:
        def call(inputs: Any) -> Any:
            seen.append((inner, inputs))
            return type(inner).call(inner, inputs)

        return call

    try:
        for inner in masking:
            object.__setattr__(inner, "call", recorded(inner))
        layer(values, training=False)
    finally:
        for inner in masking:
            object.__delattr__(inner, "call")
    return seen


def outputs_of_final_activation(
    model: keras.Model, call: Callable[[], Any]
) -> ModelOutputs:
    """The outputs of a call of the model, and the input of a final softmax or sigmoid.

    Of a layer's activation, a Softmax layer, or an operation of a functional model; a
    function of `keras.ops` in the `call` of a subclass cannot be seen. Relied on:
    layers look up `activation` and `call` on the object when they are called, and
    return what their activation returns.
    """
    seen: list[ModelOutputs] = []

    def recorded(function: Callable, kind: str) -> Callable:
        def run(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = function(inputs, *args, **kwargs)
            before = None if kind == AFFINE else inputs
            seen.append(ModelOutputs(outputs, kind, before))
            return outputs

        return run

    replaced: list[tuple[Any, str, Any]] = []
    try:
        for operation in _operations_inside(model):
            for name in ("activation", "call"):
                kind = _kind_of_activation(operation, name)
                if kind is not None:
                    function = getattr(operation, name)
                    replaced.append((operation, name, vars(operation).get(name)))
                    vars(operation)[name] = recorded(function, kind)
        outputs = call()
    finally:
        for operation, name, function in reversed(replaced):
            if function is None:
                del vars(operation)[name]
            else:
                vars(operation)[name] = function
    for found in reversed(seen):
        if found.values is outputs:
            return found
    return ModelOutputs(outputs, None, None)


def _operations_inside(model: keras.Model) -> list[Any]:
    """Layers at any depth, and the other operations of functional models."""
    found = {id(layer): layer for layer in model._flatten_layers()}
    for layer in list(found.values()):
        for call in calls_in_graph(layer):
            found[id(call.operation)] = call.operation
    return list(found.values())


def _kind_of_activation(operation: Any, name: str) -> str | None:
    """What an operation's `activation` or `call` computes, if it is looked through."""
    if name == "activation":
        activation = vars(operation).get("activation")
        kinds = {keras.activations.softmax: SOFTMAX, keras.activations.sigmoid: SIGMOID}
        kinds[keras.activations.linear] = AFFINE
        return kinds.get(activation) if callable(activation) else None
    if isinstance(operation, keras.layers.Softmax):
        return SOFTMAX if operation.axis == -1 else None
    if isinstance(operation, keras.Layer):
        return None
    kind = type(operation).__name__
    along_classes = getattr(operation, "axis", -1) == -1
    return kind if kind in (SOFTMAX, SIGMOID) and along_classes else None


def calls_in_graph(model: keras.Model) -> list[Any]:
    """The calls of operations that a functional model is made of, in order, or [].

    Each has `operation`, `arguments`, `input_tensors`, `outputs` and `is_input`.
    What an operation says of itself (`layer.input`) is of its first call, which may be
    in another model. Relied on: `_nodes_by_depth` of functional and Sequential models,
    in which the outputs' calls are at depth 0.
    """
    by_depth = getattr(model, "_nodes_by_depth", {})
    return [
        call for depth in sorted(by_depth, reverse=True) for call in by_depth[depth]
    ]


def save_as(layer: type, name: str) -> None:
    """Makes Keras save objects of `layer` as those of its public class `name`.

    Such as "keras.layers.BatchNormalization", of which `layer` is a subclass with the
    same arguments and weights: the file then loads without the subclass. Relied on:
    the register that saving looks a class' public name up in, and that weights are
    filed under the name of the class.
    """
    api_export.REGISTERED_OBJS_TO_NAMES[layer] = name
    layer.__name__ = name.rpartition(".")[2]
