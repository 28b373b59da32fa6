"""A model's inner layers in half precision, while an attack searches.

Images and logits need float32: bfloat16 near 1 is spaced 1/256, coarser than a late
step of an attack, and the last layer tells classes apart by small differences. So what
sees images, up to and including the first layer with a matrix of weights, stays as it
is, and what comes after the last one too.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras

from keras_free_adv import keras_internals
from keras_free_adv.first_layers import unwrapped

FLOAT32 = "float32"
SEARCH_DTYPES = (FLOAT32, "bfloat16", "float16")


def inner_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers that can compute in half precision, and those within them.

    Layers that are not of float32, or quantized, are not among them.

    Args:
        model: a functional or Sequential model, or an adversarial one around it; models
            within it are entered.

    Raises:
        ValueError: the model's `call` is Python, so that it does not show the order of
            its layers; or all are first or last layers.

    Example:
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3),
    ...                           keras.layers.Conv2D(4, 3), keras.layers.ReLU(),
    ...                           keras.layers.Flatten(), keras.layers.Dense(10)])
    >>> [type(layer).__name__ for layer in inner_layers(model)]
    ['Conv2D', 'ReLU', 'Flatten']
    """
    model = unwrapped(model)
    if not _has_graph(model):
        raise ValueError(
            "Argument `search_dtype` must be 'float32' for a model whose `call` is "
            "Python: the order of its layers, of which the first and the last stay in "
            f"float32, cannot be seen. Received: {model.name!r}, of class "
            f"{type(model).__name__}."
        )
    layers: dict[int, keras.layers.Layer] = {}
    kept: set[int] = set()
    _keep_first(model, [True] * len(_graph_of(model).inputs), layers, kept)
    _keep_last(model, [True] * len(_graph_of(model).outputs), kept)
    for number in kept.copy():
        kept.update(map(id, _with_those_inside([layers[number]])))
    inner = {
        id(layer): layer
        for number, outer in layers.items()
        if number not in kept
        for layer in _with_those_inside([outer])
        if id(layer) not in kept and _can_be_given(layer.dtype_policy)
    }
    if not inner:
        raise ValueError(
            "Argument `search_dtype` must be 'float32' for a model in which no layer "
            "can be given another dtype: the first and the last with weights stay in "
            "float32, and layers of another dtype policy as they are. Received: "
            f"{model.name!r}."
        )
    return list(inner.values())


@contextlib.contextmanager
def computing_in(layers: Iterable[keras.layers.Layer], dtype: str) -> Iterator[None]:
    """Makes layers compute in `dtype` until the block ends, in new graphs too.

    Their weights stay as they are. Nothing else may call the layers meanwhile.

    Example:
    >>> layer = keras.layers.Dense(2)
    >>> with computing_in([layer], "bfloat16"):
    ...     keras.backend.standardize_dtype(layer(np.ones((1, 2))).dtype)
    'bfloat16'
    >>> layer.compute_dtype
    'float32'
    """
    policy = keras.DTypePolicy(f"mixed_{dtype}")
    # A layer that holds others may hand its policy on to them: they come after it.
    own = [(layer, layer.dtype_policy) for layer in layers]
    try:
        for layer, _ in own:
            layer.dtype_policy = policy
        yield
    finally:
        for layer, before in own:
            layer.dtype_policy = before


class _Call(NamedTuple):
    """An operation, and what it goes from and to, each by its number."""

    operation: Any
    inputs: list[int]
    outputs: list[int]


class _Graph(NamedTuple):
    """The calls of a model in their order, with its own inputs and outputs."""

    inputs: list[int]
    calls: list[_Call]
    outputs: list[int]


def _graph_of(model: keras.Model) -> _Graph:
    if isinstance(model, keras.Sequential):
        chain = [_Call(layer, [n], [n + 1]) for n, layer in enumerate(model.layers)]
        return _Graph([0], chain, [len(chain)])
    calls = [
        _Call(call.operation, _numbers(call.input_tensors), _numbers(call.outputs))
        for call in keras_internals.calls_in_graph(model)
        if not call.is_input
    ]
    return _Graph(_numbers(model.inputs), calls, _numbers(model.outputs))


def _numbers(tensors: Any) -> list[int]:
    return [id(tensor) for tensor in keras.tree.flatten(tensors)]


def _keep_first(
    model: keras.Model,
    are_images: list[bool],
    layers: dict[int, keras.layers.Layer],
    kept: set[int],
) -> list[bool]:
    """Notes all layers, and those that see images; returns which outputs still do.

    `are_images` says which inputs have gone through no matrix of weights.
    """
    graph = _graph_of(model)
    sees = dict(zip(graph.inputs, are_images, strict=True))
    for operation, inputs, outputs in graph.calls:
        seen = [sees.get(number, False) for number in inputs]
        if _is_entered(operation, inputs):
            after = _keep_first(operation, seen, layers, kept)
        else:
            _note(operation, any(seen), layers, kept)
            after = [any(seen) and not _has_matrix(operation)] * len(outputs)
        sees.update(zip(outputs, after, strict=True))
    return [sees[number] for number in graph.outputs]


def _keep_last(
    model: keras.Model, are_logits: list[bool], kept: set[int]
) -> list[bool]:
    """Notes layers that make logits; returns which inputs are logits already.

    `are_logits` says which outputs go through no matrix of weights any more.
    """
    graph = _graph_of(model)
    makes = dict(zip(graph.outputs, are_logits, strict=True))
    for operation, inputs, outputs in reversed(graph.calls):
        made = [makes.get(number, False) for number in outputs]
        if _is_entered(operation, inputs):
            before = _keep_last(operation, made, kept)
        else:
            _note(operation, any(made), {}, kept)
            before = [any(made) and not _has_matrix(operation)] * len(inputs)
        for number, already in zip(inputs, before, strict=True):
            makes[number] = makes.get(number, False) or already
    return [makes.get(number, False) for number in graph.inputs]


def _note(
    operation: Any, keep: bool, layers: dict[int, keras.layers.Layer], kept: set[int]
) -> None:
    """Notes a layer; an operation such as that of `a + b` has no dtype of its own."""
    if not isinstance(operation, keras.layers.Layer):
        return
    layers.setdefault(id(operation), operation)
    if keep:
        kept.add(id(operation))


def _has_graph(layer: Any) -> bool:
    """Whether it is a model that shows its calls."""
    if isinstance(layer, keras.Sequential):
        return type(layer).call is keras.Sequential.call
    return keras_internals.is_functional(layer)


def _is_entered(operation: Any, inputs: list[int]) -> bool:
    """Whether it is a model within, called with its inputs alone (and no mask)."""
    return _has_graph(operation) and len(inputs) == len(_graph_of(operation).inputs)


def _has_matrix(layer: Any) -> bool:
    """Whether it mixes its inputs: weights but for scales and offsets."""
    if isinstance(layer, keras.layers.Normalization):  # one of each for each pixel
        return False
    return any(
        sum(size > 1 for size in weight.shape) > 1
        for weight in getattr(layer, "weights", [])
    )


def _can_be_given(policy: Any) -> bool:
    """Whether a policy is float32's own, not a quantization or a map of several."""
    plain = type(policy) in (keras.DTypePolicy, keras.dtype_policies.FloatDTypePolicy)
    return plain and policy.name == FLOAT32


def _with_those_inside(layers: Iterable[Any]) -> Iterator[Any]:
    for layer in layers:
        yield layer
        yield from keras_internals.layers_inside(layer, recursive=True)
