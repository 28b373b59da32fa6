"""Minibatches as structures, whose leaves may be None.

Keras leaves out so the label of an output without a loss, and an optional input.
"""

from typing import Any

import tensorflow as tf
from keras import tree


def first_array(structure: Any) -> Any:
    """The first leaf that is not None: it says how many examples there are."""
    return next(leaf for leaf in tree.flatten(structure) if leaf is not None)


def present(structure: Any) -> list[Any]:
    """The leaves that are not None."""
    return [leaf for leaf in tree.flatten(structure) if leaf is not None]


def with_leaves(structure: Any, leaves: Any) -> Any:
    """The structure, its leaves but for None replaced by others, in their order."""
    left = iter(leaves)
    return tree.map_structure(
        lambda leaf: None if leaf is None else next(left), structure
    )


def spec_of(dataset: tf.data.Dataset) -> Any:
    """A dataset's `element_spec`, None where its elements have None."""
    return tree.map_structure(
        lambda spec: spec if hasattr(spec, "shape") else None, dataset.element_spec
    )
