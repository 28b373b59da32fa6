"""Minibatches as structures, whose leaves may be None.

None is the label of an output without a loss, or an optional input that is absent.
"""

from typing import Any

import tensorflow as tf
from keras import tree


class BatchSpec:
    """What minibatches look like, as symbolic tensors.

    An object of our own: Keras wraps the dicts and tuples of a model's attributes.

    Args:
        *minibatch: x, y[, sample_weight].
    """

    def __init__(self, *minibatch: Any) -> None:
        self.minibatch = minibatch


def first_array(structure: Any) -> Any:
    """The first leaf that is not None; its length is the number of examples."""
    return next(leaf for leaf in tree.flatten(structure) if leaf is not None)


def present(structure: Any) -> list[Any]:
    """The leaves that are not None."""
    return [leaf for leaf in tree.flatten(structure) if leaf is not None]


def with_leaves(structure: Any, leaves: Any) -> Any:
    """The structure with other leaves, in their order; a None stays."""
    left = iter(leaves)
    return tree.map_structure(lambda _: next(left), structure, none_is_leaf=False)


def spec_of(dataset: tf.data.Dataset) -> Any:
    """A dataset's `element_spec`, None where its elements are None."""
    return tree.map_structure(
        lambda spec: spec if hasattr(spec, "shape") else None, dataset.element_spec
    )
