"""What differs between Keras' backends: one file for each, with the same functions.

Everything else is said once, in `keras.ops`. `from keras_free_adv import backends`
gives the functions of the backend in use.
"""

import keras

if keras.backend.backend() == "tensorflow":
    from keras_free_adv.backends import tensorflow as _backend
elif keras.backend.backend() == "jax":
    from keras_free_adv.backends import jax as _backend  # type: ignore[no-redef]
elif keras.backend.backend() == "torch":
    from keras_free_adv.backends import torch as _backend  # type: ignore[no-redef]
else:
    raise ImportError(
        "keras_free_adv runs on Keras' backends tensorflow, jax and torch. Received: "
        f"{keras.backend.backend()!r}. Set KERAS_BACKEND to one of them before "
        "anything imports Keras, or the backend in Keras' configuration file."
    )

NAME = _backend.NAME
WRONG_SIZE = _backend.WRONG_SIZE
LogsOfWorkers = _backend.LogsOfWorkers
ReplicaVariable = _backend.ReplicaVariable
Trainer = _backend.Trainer
compiled = _backend.compiled
deterministic = _backend.deterministic
element_by_element = _backend.element_by_element
is_symbolic = _backend.is_symbolic
look_through = _backend.look_through
make_deterministic = _backend.make_deterministic
on_rows = _backend.on_rows
outside_graphs = _backend.outside_graphs
pullback = _backend.pullback
replica_number = _backend.replica_number
rounds_float32 = _backend.rounds_float32
value_and_gradient = _backend.value_and_gradient
versions = _backend.versions
while_loop = _backend.while_loop

__all__ = [  # noqa: RUF022 (sorted as the other subpackages)
    "LogsOfWorkers",
    "NAME",
    "ReplicaVariable",
    "Trainer",
    "WRONG_SIZE",
    "compiled",
    "deterministic",
    "element_by_element",
    "is_symbolic",
    "look_through",
    "make_deterministic",
    "on_rows",
    "outside_graphs",
    "pullback",
    "replica_number",
    "rounds_float32",
    "value_and_gradient",
    "versions",
    "while_loop",
]
