"""Which of a model's inputs is perturbed."""

from typing import Any

import keras
from keras import tree


class PerturbedInput:
    """Finds the images among what a model takes, and puts others in their place.

    A model that was made from a dict of inputs takes a dict of the same keys. Any
    other with several inputs takes a dict of its inputs' names. Names that Keras gave
    by itself ("keras_tensor_3") are others in a file that is loaded; those of the
    input layers stay, and are accepted as well.

    Args:
        name: of the input, when the model takes a dict of inputs; else None.
        model: the user's model.

    Raises:
        TypeError, ValueError: `name` is no name, or not one of the model's inputs; or
            there are several inputs, and none is named.
    """

    def __init__(self, name: Any, model: keras.Model) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(
                "Argument `perturbed_input` must be the name of an input, or None. "
                f"Received: perturbed_input={name!r}."
            )
        self._inputs = _Inputs(model)
        self._name = name if name is None else self._inputs.key_of(name)
        if name is None and self._inputs.count > 1:
            raise ValueError(
                "Argument `perturbed_input` must name one of the model's inputs, "
                f"{self._inputs.keys}, because there are several. Received: "
                "perturbed_input=None."
            )

    @property
    def lasting_name(self) -> str | None:
        """A name that the input still has in a file that is loaded."""
        return None if self._name is None else self._inputs.lasting_name(self._name)

    @property
    def number(self) -> int:
        """Which of the model's inputs it is, in the order of `model.inputs`."""
        return 0 if self._name is None else self._inputs.number_of(self._name)

    def of(self, x: Any) -> Any:
        """The images in `x`: an array, a dict with the name, or a nest of one."""
        return tree.flatten(x)[0] if self._name is None else x[self._name]

    def put(self, x: Any, images: Any) -> Any:
        """`x`, with `images` in the place of its own."""
        if self._name is not None:
            return {**x, self._name: images}
        return tree.pack_sequence_as(x, [images]) if tree.is_nested(x) else images

    def check(self, x: Any, owner: str) -> None:
        """Raises if `x` does not hold the images as the model's `owner` needs it."""
        if self._name is None and len(tree.flatten(x)) != 1:
            raise ValueError(
                "Argument `perturbed_input` of the model must name the input to "
                "perturb, because `x` has several: "
                f"{list(x) if isinstance(x, dict) else x}. "
                f"Pass a dict of inputs and {owner}(..., perturbed_input=name)."
            )
        if self._name is not None and (not isinstance(x, dict) or self._name not in x):
            received = list(x) if isinstance(x, dict) else type(x).__name__
            raise ValueError(
                "Argument `x` must be a dict of inputs with the key "
                f"perturbed_input={self._name!r}. Received: {received}."
            )


class _Inputs:
    """A model's inputs, and the key that each has in the data.

    Args:
        model: the user's model; of a subclassed one nothing is known.
    """

    def __init__(self, model: keras.Model) -> None:
        self._tensors = list(getattr(model, "inputs", None) or [])
        keys = [tensor.name for tensor in self._tensors]
        # The inputs as the user gave them; a Sequential has no such attribute.
        given = getattr(model, "input", None) if len(keys) > 1 else None
        if isinstance(given, dict):
            key_by_tensor = {id(tensor): key for key, tensor in given.items()}
            keys = [key_by_tensor.get(id(t), t.name) for t in self._tensors]
        self.keys = keys
        layers = {
            id(layer.output): layer.name
            for layer in model.layers
            if isinstance(layer, keras.layers.InputLayer)
        }
        self._layers = [layers.get(id(t), t.name) for t in self._tensors]

    @property
    def count(self) -> int:
        """How many there are, as far as is known."""
        return len(self.keys)

    def key_of(self, name: str) -> str:
        """The key of the input with this key, this name, or this layer's name."""
        if not self.keys:
            return name
        for names in (self.keys, [t.name for t in self._tensors], self._layers):
            if name in names:
                return self.keys[names.index(name)]
        raise ValueError(
            "Argument `perturbed_input` must be one of the model's inputs, "
            f"{self.keys}. Received: perturbed_input={name!r}."
        )

    def number_of(self, key: str) -> int:
        """The place of the input with this key."""
        return self.keys.index(key) if key in self.keys else 0

    def lasting_name(self, key: str) -> str:
        """The key, unless Keras made it up: then the name of its input layer."""
        if not self.keys:
            return key
        number = self.number_of(key)
        named_by_tensor = key == self._tensors[number].name
        return self._layers[number] if named_by_tensor else key
