"""What was worked out for a model, forgotten with the model."""

import weakref
from collections.abc import Callable
from typing import Any


class ModelCache:
    """A cache with a part for each model, which does not keep the model alive.

    A graph reads the variables that it was made with. So a model's part is emptied
    when the model's variables are no longer the same objects, as after `enable_lora`
    or `quantize`; new values in the same variables change nothing. Other changes in
    place (`layer.activation = ...`) are not seen: they need a new cache, and so a new
    attack object.

    A plain object, so that Keras tracks neither it nor the models. A copy is empty.
    """

    def __init__(self) -> None:
        self._of_model: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def get(self, model: Any, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` once made for this model and key; it must not hold the model."""
        part = self._of_model.get(model)
        if part is None or not part.is_of(model):
            part = self._of_model[model] = _Part()
        if key not in part.made:
            part.made[key] = make()
            part.remember(model)  # only now: the first look at a model may build it
        return part.made[key]

    def __deepcopy__(self, memo: Any) -> "ModelCache":
        return ModelCache()

    def __reduce__(self) -> Any:
        return ModelCache, ()


class _Part:
    """What was made for one model, and for which variables."""

    def __init__(self) -> None:
        self.made: dict[Any, Any] = {}
        self._variables: list[weakref.ref] = []

    def remember(self, model: Any) -> None:
        self._variables = [weakref.ref(variable) for variable in model.variables]

    def is_of(self, model: Any) -> bool:
        # By reference: the number of an object may be given again after its end.
        now = model.variables
        return len(now) == len(self._variables) and all(
            one() is other for one, other in zip(self._variables, now, strict=True)
        )
