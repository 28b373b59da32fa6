"""The first layers of a model: what it does to its images, one after the other."""

from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import keras

from keras_free_adv import keras_internals


class Step(NamedTuple):
    """One operation that a model applies to its images.

    Attributes:
        operation: a Keras layer, or an operation such as that of `images / 255`.
        arguments: what it is called with; of a layer in a Sequential, nothing.
    """

    operation: Any
    arguments: tuple[Any, ...] = ()


def unwrapped(model: keras.Model) -> keras.Model:
    """The user's own model: of an adversarial model, the one inside."""
    return model.model if getattr(model, "is_wrapper", False) else model


def first_layers(model: keras.Model, input_name: str | None = None) -> Iterator[Step]:
    """The operations on the images, from the input on, as long as there is one path.

    Nested models are entered, and of an adversarial model the one inside is meant. A
    subclassed model does not show the order of its layers, and yields nothing.

    Args:
        model: any Keras model.
        input_name: name of the input that holds the images, if there are several.

    Example:
    >>> inputs = keras.Input((8, 8, 1))
    >>> features = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.ReLU()])
    >>> model = keras.Model(inputs, features(keras.layers.Rescaling(1 / 255)(inputs)))
    >>> [type(step.operation).__name__ for step in first_layers(model)]
    ['Rescaling', 'Conv2D', 'ReLU']
    """
    yield from _path_through(model, input_name)


def _path_through(
    model: keras.Model, input_name: str | None = None
) -> Generator[Step, None, bool]:
    """Yields the steps; returns whether they lead through the whole model."""
    model = unwrapped(model)
    if isinstance(model, keras.Sequential):  # built or not
        for layer in model.layers:
            if not (yield from _path_of_call(layer, ())):
                return False
        return True
    return (yield from _path_in_graph(model, input_name))


def _path_in_graph(
    model: keras.Model, input_name: str | None
) -> Generator[Step, None, bool]:
    """The path through a functional model."""
    calls = keras_internals.calls_in_graph(model)
    if not calls:
        return False
    images = _input_of(model, input_name)
    while images is not None:
        using = [call for call in calls if _uses(call, images)]
        if len(using) != 1 or len(using[0].input_tensors) + len(using[0].outputs) != 2:
            break
        (call,) = using
        if not (yield from _path_of_call(call.operation, call.arguments.args)):
            return False
        images = call.outputs[0]
    return any(images is output for output in _as_list(model.outputs))


def _path_of_call(
    operation: Any, arguments: tuple[Any, ...]
) -> Generator[Step, None, bool]:
    """The steps of one operation: itself, or the path through a nested model."""
    if isinstance(operation, keras.Model):
        return (yield from _path_through(operation))
    yield Step(operation, arguments)
    return True


def _input_of(model: keras.Model, input_name: str | None) -> Any:
    """The input that holds the images, or None."""
    named = [one for one in model.inputs if input_name in (None, one.name)]
    return named[0] if len(named) == 1 else None


def _uses(call: Any, tensor: Any) -> bool:
    # By identity: `==` of symbolic tensors makes another one.
    return not call.is_input and any(one is tensor for one in call.input_tensors)


def _as_list(tensors: Any) -> list[Any]:
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]
