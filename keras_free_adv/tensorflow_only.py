"""What runs on TensorFlow only, and what to do on another backend."""

import keras


def require_tensorflow(name: str, why: str, remedy: str) -> None:
    """Raises unless Keras runs on TensorFlow.

    Args:
        name: the function that needs it.
        why: what it does with TensorFlow, as the end of a sentence.
        remedy: how to get there from another backend.

    Raises:
        RuntimeError: Keras runs on another backend.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"`{name}` needs Keras' backend 'tensorflow': it {why}. Received: the "
            f"backend {backend!r}. {remedy}"
        )
