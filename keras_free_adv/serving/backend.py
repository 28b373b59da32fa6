"""Exports are TensorFlow programs: on another backend, an error says how to get one."""

import keras

from keras_free_adv.tensorflow_only import require_tensorflow

_REMEDY = (
    'Save the model as plain Keras with model.save("model.keras"), or '
    'model.model.save("model.keras") if it is an adversarial one; then load that file '
    "and export it in a process started with KERAS_BACKEND=tensorflow."
)
_ON_JAX = (
    " On JAX, Keras' own model.export also writes a SavedModel, without the signatures "
    "and checks of this function."
)


def require_tensorflow_to_export(name: str) -> None:
    """Raises on another backend than TensorFlow; `name` is the calling function.

    Raises:
        RuntimeError: Keras runs on another backend.
    """
    remedy = _REMEDY + (_ON_JAX if keras.backend.backend() == "jax" else "")
    require_tensorflow(name, "writes a TensorFlow program", remedy)
