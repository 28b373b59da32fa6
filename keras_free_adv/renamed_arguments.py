"""Arguments that had other names in the first release.

Its files still load. Code that passes an old name gets an error with the new one.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

# Old name to new.
TRAINING = {"perturb": "perturbed_input", "epsilon_warmup": "epsilon_warmup_steps"}
GUARD = {"restore_best": "restore_best_weights"}
EVALUATION = {"every": "evaluation_freq"}
RECIPE = {"epsilon_warmup": "epsilon_warmup_steps"}

_Class = TypeVar("_Class", bound=type)


def with_new_names(
    config: Mapping[str, Any], renamed: Mapping[str, str]
) -> dict[str, Any]:
    """A copy of a config in which the arguments have their new names.

    A config that has the new name is of this release: there the old one is a
    subclass's own.
    """
    names = {old: new for old, new in renamed.items() if new not in config}
    return {names.get(name, name): value for name, value in config.items()}


def refuse_old_names(arguments: Mapping[str, Any], renamed: Mapping[str, str]) -> None:
    """Raises a TypeError if an argument has its old name."""
    for old, new in renamed.items():
        if old in arguments:
            raise TypeError(
                f"Argument `{old}` is now called `{new}`. Received: "
                f"{old}={arguments[old]!r}."
            )


def refuses_old_names(renamed: Mapping[str, str]) -> Callable[[_Class], _Class]:
    """Decorates a class whose constructor takes no other arguments than its own."""

    def decorate(cls: _Class) -> _Class:
        constructor = cls.__init__  # type: ignore[misc]

        @functools.wraps(constructor)
        def checked(self: Any, *args: Any, **kwargs: Any) -> None:
            refuse_old_names(kwargs, renamed)
            constructor(self, *args, **kwargs)

        cls.__init__ = checked  # type: ignore[misc]
        return cls

    return decorate
