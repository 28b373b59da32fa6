"""The random preprocessing layers that a model begins with."""

import collections
import functools
from collections.abc import Iterator
from typing import Any

import keras
from keras import tree

from keras_free_adv import keras_internals
from keras_free_adv.data.keyed_augmentation import is_affine, is_random


class RandomStem:
    """The random stem of a model, and the rest, which is what is trained.

    Inside the model each forward pass would draw anew, and a perturbation would belong
    to other pixels than those the network sees. So the stem is applied to the clean
    minibatch, once for all its replays (`KeyedAugmentation`), and perturbations are
    added behind it.

    Attributes:
        layers: the stem, up to its last random layer: random preprocessing layers, and
            affine ones between them.
        rest: the stem's affine layers and all that is behind it, as functions to be
            called one after the other. The layers are the user's own; the last function
            of a functional model is the graph behind the stem.
        others: names of the other inputs of that graph.
    """

    def __init__(self, layers: list[Any], behind: list[Any], others: list[str]) -> None:
        self.layers = layers
        affine = [layer for layer in layers if is_affine(layer)]
        self.rest = affine + behind or [keras.layers.Identity()]
        self.others = others

    def call_rest(self, images: Any, inputs: Any) -> Any:
        """The model's outputs for images from behind the stem.

        Args:
            images: `[B, ...]`, in the user's pixel units.
            inputs: all of the model's inputs; of a dict, those in `others` are used.
        """
        *functions, last = self.rest
        for function in functions:
            images = function(images)
        others = [inputs[name] for name in self.others]
        return last([images, *others] if others else images)


def find_random_stem(model: Any, perturbed: str | None) -> RandomStem | None:
    """Finds the random stem on the path from the perturbed input, if there is one.

    The stem is the longest single path of random preprocessing layers with affine ones
    between them, also in nested Sequential models. Any other layer ends it, and so does
    one that the model uses in another place too.

    Args:
        model: the user's model, built.
        perturbed: name of the perturbed input, or None for the only one.
    """
    if is_sequential(model):
        layers = _opened(model)
        length = _stem_length(layers, model)
        if not length:
            return None
        return RandomStem(layers[:length], layers[length:], [])
    if keras_internals.is_functional(model):
        return _functional_stem(model, perturbed)
    return None


def _functional_stem(model: Any, perturbed: str | None) -> RandomStem | None:
    inputs = _inputs_by_name(model)
    first = model.inputs[0] if perturbed is None else inputs.get(perturbed)
    layers: list[Any] = []
    ends = []  # of each call on the path: how many layers are before, and its output
    for node in _single_path(model, first):
        layers += _opened(node.operation)
        ends.append((len(layers), node.outputs[0]))
    length = _stem_length(layers, model)
    if not length:
        return None
    end, output = next(each for each in ends if each[0] >= length)
    others = {name: one for name, one in inputs.items() if one is not first}
    behind = layers[length:end]
    if not any(output is one for one in model.outputs):
        # Keras shares the layers, and makes a new input for what is behind the stem.
        graph_inputs = [output, *others.values()] if others else output
        behind.append(
            keras.Model(graph_inputs, model.output, name=f"{model.name}_behind_stem")
        )
    return RandomStem(layers[:length], behind, list(others))


def is_sequential(layer: Any) -> bool:
    """Whether calling `layer` calls its layers one after the other."""
    sequential = isinstance(layer, keras.Sequential)
    return sequential and type(layer).call is keras.Sequential.call


def random_layers_outside(model: Any, stem: RandomStem | None) -> list[str]:
    """Names of the layers that change pixels at random, and are not in the stem."""
    inside = set(map(id, stem.layers)) if stem is not None else set()
    found = {id(layer): layer.name for layer in _random_layers(model)}
    return [name for number, name in found.items() if number not in inside]


def _random_layers(layer: Any) -> Iterator[Any]:
    for inner in keras_internals.layers_inside(layer, recursive=False):
        if isinstance(inner, _changing_pixels()):
            yield inner
        else:
            yield from _random_layers(inner)


@functools.cache
def _changing_pixels() -> tuple[type, ...]:
    """All of Keras' layers that change pixels at random; subclasses count too."""
    names = [name for name in dir(keras.layers) if name.startswith("Random")]
    names += ["RandAugment", "AugMix", "MixUp", "CutMix", "Solarization"]
    return tuple(getattr(keras.layers, name) for name in names)


def _opened(layer: Any) -> list[Any]:
    """The layers of nested Sequential models, one after the other."""
    if is_sequential(layer) or type(layer) is keras.layers.Pipeline:
        return [one for inner in layer.layers for one in _opened(inner)]
    if keras_internals.is_functional(layer) and len(layer.inputs) == 1:
        path = list(_single_path(layer, layer.inputs[0]))
        layers = [one for node in path for one in _opened(node.operation)]
        reaches_its_output = path and path[-1].outputs[0] is layer.outputs[0]
        if reaches_its_output and all(map(_may_be_in_a_stem, layers)):
            return layers
    return [layer]


def _single_path(model: Any, tensor: Any) -> Iterator[Any]:
    """The calls from a symbolic tensor on, as long as each only feeds the next one."""
    nodes = keras_internals.calls_in_graph(model)
    while not any(tensor is output for output in model.outputs):
        takers = [n for n in nodes if any(each is tensor for each in n.input_tensors)]
        if len(takers) != 1 or len(takers[0].input_tensors) != 1:
            return
        (node,) = takers
        never_random = node.arguments.kwargs.get("training") is False
        if never_random or len(node.outputs) != 1:
            return
        yield node
        (tensor,) = node.outputs


def _may_be_in_a_stem(layer: Any) -> bool:
    return is_random(layer) or is_affine(layer)


def _stem_length(layers: list[Any], model: Any) -> int:
    """How many of the first layers are a stem: none if there is no random layer."""
    uses = collections.Counter(map(id, _used_layers(model)))
    length = 0
    for number, layer in enumerate(layers, start=1):
        if not _may_be_in_a_stem(layer) or uses[id(layer)] > 1:
            break
        if is_random(layer):
            length = number
    return length


def _used_layers(layer: Any) -> Iterator[Any]:
    """The layers inside, each as often as it is called."""
    if keras_internals.is_functional(layer):
        inner = [
            node.operation
            for node in keras_internals.calls_in_graph(layer)
            if not node.is_input
        ]
    elif is_sequential(layer):
        inner = layer.layers
    else:
        inner = list(keras_internals.layers_inside(layer, recursive=False))
    for one in inner:
        yield one
        if isinstance(one, keras.Layer):
            yield from _used_layers(one)


def _inputs_by_name(model: Any) -> dict[str, Any]:
    """The symbolic inputs by the names that a user's dict of inputs has."""
    if isinstance(model.input, dict):
        return dict(model.input)
    return {one.name: one for one in tree.flatten(model.input)}
