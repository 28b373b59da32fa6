"""A Keras model around the user's own."""

from typing import Any

import keras
from keras import ops, tree

from keras_free_adv import keras_internals
from keras_free_adv.workers import logs_of_workers


class WrappedModel(keras_internals.BuiltFromOneReplica):
    """Trains `model`, and behaves as `model` does in everything but training.

    Args:
        model: the user's model; `.model` gives it back. It is what is served.
        **kwargs: of `keras.Model` (`name`, `trainable`, `dtype`). The dtype policy is
            the inner model's unless given.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: training `model` through a wrapper would bypass or break it; the
            message says what to do instead.
    """

    # What is asked of layers (`keras_free_adv.first_layers`) is asked of `model`.
    is_wrapper = True

    def __init__(self, model: keras.Model, **kwargs: Any) -> None:
        _refuse_what_cannot_be_wrapped(model)
        kwargs.setdefault("dtype", model.dtype_policy)
        # The inner model casts for itself. Rounded to half precision on their way in,
        # images would lose most of a perturbation of 8/255.
        super().__init__(autocast=False, **kwargs)
        self.model = model
        self.built = model.built

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Calls the user's model, on integer pixels (uint8) as on floats."""
        return self.model(_as_floats(inputs, self.model), training=training)

    def train_step(self, data: Any) -> dict[str, Any]:
        """As Keras', on many machines too."""
        return logs_of_workers(super().train_step(data), self.distribute_strategy)

    def test_step(self, data: Any) -> dict[str, Any]:
        """As Keras', on many machines too."""
        return logs_of_workers(super().test_step(data), self.distribute_strategy)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        config["model"] = keras.saving.serialize_keras_object(self.model)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Makes the wrapper, and the model in it, from `get_config()`."""
        config = dict(config)
        config["model"] = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        return cls(**config)

    # What a user asks of the wrapper and means of the model in it.

    @property
    def inputs(self) -> Any:
        """The user's model's inputs."""
        return self.model.inputs

    @property
    def outputs(self) -> Any:
        """The user's model's outputs."""
        return self.model.outputs

    @property
    def input_shape(self) -> Any:
        """The user's model's input shape."""
        return self.model.input_shape

    @property
    def output_shape(self) -> Any:
        """The user's model's output shape."""
        return self.model.output_shape

    @property
    def output_names(self) -> Any:
        """The user's model's output names, for losses and metrics by output."""
        return getattr(self.model, "output_names", None)

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """A layer of the user's model."""
        return self.model.get_layer(name=name, index=index)

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Prints the user's model."""
        return self.model.summary(*args, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """Exports the user's model: nothing of training is in the artifact."""
        return self.model.export(*args, **kwargs)


def _as_floats(inputs: Any, model: keras.Model) -> Any:
    """Casts integer inputs to float, but for those the model declares as integer."""
    declared = getattr(model, "inputs", None)
    if declared is not None:
        return inputs  # a functional model casts to the dtypes it declares
    return tree.map_structure(
        lambda x: (
            ops.cast(x, "float32")
            if keras.backend.standardize_dtype(x.dtype) == "uint8"
            else x
        ),
        inputs,
    )


def _refuse_what_cannot_be_wrapped(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Argument `model` must be a keras.Model. Received: "
            f"{model!r} (of type {type(model).__name__}). Wrap layers in a "
            "keras.Sequential first."
        )
    for method in ("train_step", "compute_loss", "compute_metrics", "test_step"):
        if getattr(type(model), method) is not getattr(keras.Model, method):
            raise ValueError(
                f"Argument `model` must not override `{method}`: the adversarial "
                f"model trains it with a step of its own, and would bypass "
                f"{type(model).__name__}.{method}. Received: {type(model).__name__}. "
                "Move what it does into a loss, a metric or `add_loss`, or pass the "
                "network inside."
            )
    if getattr(model, "preprocessor", None) is not None:
        raise ValueError(
            "Argument `model` must not have a preprocessor attached: the adversarial "
            f"model would bypass it. Received: {type(model).__name__} with "
            f"preprocessor {type(model.preprocessor).__name__}. Create it with "
            "preprocessor=None, and preprocess in the data or in the network."
        )
    for declared in getattr(model, "inputs", None) or []:
        if len(getattr(model, "inputs", [])) == 1 and not keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(declared.dtype)
        ):
            raise ValueError(
                "Argument `model` must take floats: there is no gradient with respect "
                f"to integers. Received: a model whose input {declared.name!r} has "
                f"dtype {declared.dtype}. Declare keras.Input(dtype='float32'); uint8 "
                "data is cast by itself."
            )
