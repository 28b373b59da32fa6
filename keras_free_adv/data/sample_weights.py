"""The `sample_weight` of `fit`, for a model of several outputs."""

from typing import Any

import numpy as np
from keras import tree


def weights_of_outputs(sample_weight: Any, y: Any) -> Any:
    """Returns the weights of each output, ones for an output that has none.

    Raises:
        ValueError: there are weights for other outputs than there are labels.
    """
    if not isinstance(sample_weight, (dict, list, tuple)) or not tree.is_nested(y):
        return sample_weight
    if isinstance(sample_weight, dict):
        wanted, given = set(y) if isinstance(y, dict) else None, set(sample_weight)
        fits = wanted == given
    else:
        fits = isinstance(y, (list, tuple)) and len(y) == len(sample_weight)
    if not fits:
        raise ValueError(
            "Argument `sample_weight` must have an entry for each output, as `y` has: "
            f"{_outline(y)}. Received: {_outline(sample_weight)}. Pass None for an "
            "output without weights."
        )

    def or_ones(weights: Any, labels: Any) -> Any:
        if weights is not None or labels is None:  # an output without a loss has none
            return weights
        return np.ones(len(labels), "float32")

    if isinstance(y, dict):
        return {name: or_ones(sample_weight[name], y[name]) for name in y}
    return tuple(map(or_ones, sample_weight, y))


def _outline(structure: Any) -> str:
    if isinstance(structure, dict):
        return f"a dict of {sorted(structure)}"
    return f"a {type(structure).__name__} of {len(structure)}"
