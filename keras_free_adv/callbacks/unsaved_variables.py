"""The variables of a model whose values `save_weights` does not keep exactly.

The seeds of random layers, such as Dropout, and what the metrics have counted in this
epoch are not in the file; and of variables that differ from replica to replica, such as
batch norm's statistics, it has one value.
"""

from typing import Any

import keras
import numpy as np

from keras_free_adv.distribution import workers


def states_of(model: keras.Model) -> list[Any]:
    """The model's variables that are not trained; on JAX a step carries more."""
    return [variable for variable in model.variables if not variable.trainable]


# The variables of each kind.
_KINDS = {"state": states_of, "metric": lambda model: model.metrics_variables}


def unsaved_values(model: keras.Model) -> dict[str, np.ndarray]:
    """The values by name; under a strategy each replica's as well."""
    strategy = workers.strategy_of(model)
    arrays = {}
    for kind, variables_of in _KINDS.items():
        for number, variable in enumerate(variables_of(model)):
            name = f"{kind}.{number}"
            arrays[name] = keras.ops.convert_to_numpy(variable)
            if workers.replica_count(strategy) > 1:
                local = strategy.experimental_local_results(variable.value)
                arrays[f"{name}.replicas"] = workers.gathered(local, strategy)
    return arrays


def assign_unsaved(
    model: keras.Model, kind: str, arrays: dict[str, np.ndarray]
) -> None:
    """Assigns what `unsaved_values` returned.

    Args:
        model: a model with as many variables, on any number of replicas.
        kind: "state" for the non-trainable variables, "metric" for those of metrics.
        arrays: the values by name.
    """
    strategy = workers.strategy_of(model)
    for number, variable in enumerate(_KINDS[kind](model)):
        name = f"{kind}.{number}"
        replicas = arrays.get(f"{name}.replicas")
        if replicas is not None and len(replicas) == workers.replica_count(strategy):
            local = strategy.experimental_local_results(variable.value)
            values = workers.of_this_worker(replicas, strategy)
            for one, value in zip(local, values, strict=True):
                one.assign(value)
        else:
            variable.assign(arrays[name])
