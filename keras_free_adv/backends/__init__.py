"""What differs between Keras' backends: one file for each, with the same functions.

Everything else is said once, in `keras.ops`. `from keras_free_adv import backends`
gives the functions of the backend in use.
"""

import keras

if keras.backend.backend() == "tensorflow":
    from keras_free_adv.backends.tensorflow import (
        NAME,
        WRONG_SIZE,
        LogsOfWorkers,
        ReplicaVariable,
        Trainer,
        compiled,
        deterministic,
        is_symbolic,
        look_through,
        outside_graphs,
        pullback,
        replica_number,
        rounds_float32,
        value_and_gradient,
        versions,
        while_loop,
    )
elif keras.backend.backend() == "jax":
    from keras_free_adv.backends.jax import (  # type: ignore[assignment]
        NAME,
        WRONG_SIZE,
        LogsOfWorkers,
        ReplicaVariable,
        Trainer,
        compiled,
        deterministic,
        is_symbolic,
        look_through,
        outside_graphs,
        pullback,
        replica_number,
        rounds_float32,
        value_and_gradient,
        versions,
        while_loop,
    )
elif keras.backend.backend() == "torch":
    from keras_free_adv.backends.torch import (  # type: ignore[assignment]
        NAME,
        WRONG_SIZE,
        LogsOfWorkers,
        ReplicaVariable,
        Trainer,
        compiled,
        deterministic,
        is_symbolic,
        look_through,
        outside_graphs,
        pullback,
        replica_number,
        rounds_float32,
        value_and_gradient,
        versions,
        while_loop,
    )
else:
    raise ImportError(
        "keras_free_adv runs on Keras' backends tensorflow, jax and torch. Received: "
        f"{keras.backend.backend()!r}. Set KERAS_BACKEND to one of them before "
        "anything imports Keras, or the backend in Keras' configuration file."
    )

__all__ = [  # noqa: RUF022 (sorted as the other subpackages)
    "LogsOfWorkers",
    "NAME",
    "ReplicaVariable",
    "Trainer",
    "WRONG_SIZE",
    "compiled",
    "deterministic",
    "is_symbolic",
    "look_through",
    "outside_graphs",
    "pullback",
    "replica_number",
    "rounds_float32",
    "value_and_gradient",
    "versions",
    "while_loop",
]
