"""What was worked out for a model, forgotten with the model."""

import weakref
from collections.abc import Callable
from typing import Any


class ModelCache:
    """A cache with a part for each model, which does not keep the model alive.

    A plain object, so that Keras tracks neither it nor the models. A copy is empty.
    """

    def __init__(self) -> None:
        self._of_model: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def get(self, model: Any, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` once made for this model and key; it must not hold the model."""
        known = self._of_model.setdefault(model, {})
        if key not in known:
            known[key] = make()
        return known[key]

    def __deepcopy__(self, memo: Any) -> "ModelCache":
        return ModelCache()

    def __reduce__(self) -> Any:
        return ModelCache, ()
