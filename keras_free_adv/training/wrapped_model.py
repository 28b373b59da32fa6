"""A Keras model around the user's own."""

import os
from typing import Any

import keras
from keras import ops, tree

from keras_free_adv import backends, keras_internals
from keras_free_adv.training.training_argument import takes_training

# The adversarial model trains and evaluates by its own of these: an override is lost.
_BYPASSED = (
    "train_step",
    "test_step",
    "compute_loss",
    "compute_metrics",
    "get_metrics_result",
    "reset_metrics",
    "make_train_function",
    "make_test_function",
    "make_predict_function",
    "compile",
    "fit",
    "evaluate",
    "train_on_batch",
    "test_on_batch",
)
_REMEDY = (
    "Move what it does into a loss, a metric or `add_loss`, or pass the network inside."
)
_CALL_IT = "Pass the network inside, and do what the override does where you call it."
_REMEDIES = {
    "fit": "Move what it does into a callback, or do it where you call `fit`.",
    "compile": "Pass the network inside, and all settings to `compile` directly.",
    "evaluate": _CALL_IT,
    "train_on_batch": _CALL_IT,
    "test_on_batch": _CALL_IT,
    "predict_step": "Override `predict` instead.",
    "make_predict_function": "Override `predict_step` or `predict` instead.",
}
# KerasHub's overrides of what users call add default arguments to `compile`, and a
# preprocessor, which is refused by itself.
_ADD_NOTHING = {
    "keras_hub": ("compile", "fit", "evaluate", "predict")
    + ("train_on_batch", "test_on_batch", "predict_on_batch")
}


class WrappedModel(backends.LogsOfWorkers, keras_internals.BuiltFromOneReplica):
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
        if not takes_training(self.model):
            # Keras calls such a model without the argument, which its layers take for
            # inference. Left out here, it would be handed on from this call to them.
            training = False
        return self.model(_as_floats(inputs, self.model), training=training)

    def predict_step(self, *args: Any) -> Any:
        """As the user's model predicts."""
        if not _overrides(self.model, "predict_step"):
            return super().predict_step(*args)
        (data,) = args  # on JAX an override is refused: its state is another
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x = _as_floats(x, self.model)
        data = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        return self.model.predict_step(data)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """As the user's model predicts."""
        if _overrides(self.model, "predict"):
            return self.model.predict(*args, **kwargs)
        return super().predict(*args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """As the user's model predicts."""
        if _overrides(self.model, "predict_on_batch"):
            return self.model.predict_on_batch(x)
        return super().predict_on_batch(x)

    @property
    def metrics(self) -> list[Any]:
        """Keras' metrics of a model, and those that the user's model makes itself."""
        found = list(super().metrics)
        known = {id(metric) for metric in found}
        own = keras_internals.own_metrics(self.model)
        return found + [metric for metric in own if id(metric) not in known]

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.save`, to a `.keras` file.

        Raises:
            ValueError: `filepath` ends in `.h5` or `.hdf5`.
        """
        if os.fspath(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                "Argument `filepath` must end in '.keras'. Received: "
                f"filepath={str(filepath)!r}. Keras' HDF5 format keeps neither delta "
                "nor the position in the data, and cannot load the model again. Save "
                "the network alone by model.model.save(...), or weights, delta and "
                "position by model.save_weights('....weights.h5')."
            )
        super().save(filepath, *args, **kwargs)

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
    def input(self) -> Any:
        """The user's model's input, or inputs as it takes them."""
        return self.model.input

    @property
    def output(self) -> Any:
        """The user's model's output, or outputs as it returns them."""
        return self.model.output

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


def _overrides(model: keras.Model, method: str) -> bool:
    """Whether the model's class does something else than Keras in a method."""
    own = getattr(type(model), method)
    library = own.__module__.partition(".")[0]
    if method in _ADD_NOTHING.get(library, ()):
        return False
    return own is not getattr(keras.Model, method)


def _as_floats(inputs: Any, model: keras.Model) -> Any:
    """Casts integer inputs to float, but for those the model declares as integer."""
    declared = getattr(model, "inputs", None)
    if declared is not None:
        return inputs  # a functional model casts to the dtypes it declares
    return tree.map_structure(
        lambda x: (
            ops.cast(x, "float32")
            if x is not None and keras.backend.standardize_dtype(x.dtype) == "uint8"
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
    stateless = keras.backend.backend() == "jax"
    for method in _BYPASSED + (("predict_step",) if stateless else ()):
        if _overrides(model, method):
            raise ValueError(
                f"Argument `model` must not override `{method}`: the adversarial "
                f"model has a `{method}` of its own, and would bypass "
                f"{type(model).__name__}.{method}. Received: {type(model).__name__}. "
                f"{_REMEDIES.get(method, _REMEDY)}"
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
