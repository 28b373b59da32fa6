"""The first array of a structure, which says how many examples there are."""

from typing import Any

from keras import tree


def first_array(structure: Any) -> Any:
    """The first leaf that is not None: an optional input, say, may be left out."""
    return next(leaf for leaf in tree.flatten(structure) if leaf is not None)
