"""`keras-free-adv recipes`."""

import difflib
import json
from typing import Any

from keras_free_adv import recipes
from keras_free_adv.command_line.command import CommandError


def run(values: Any, name: str | None = None) -> None:
    """Prints the names of the recipes, or the settings of one."""
    del values
    if name is None:
        print("\n".join(recipes.names()))
        return
    print(json.dumps(named(name).to_dict(), indent=2))


def named(name: str) -> recipes.Recipe:
    """A recipe by its name.

    Raises:
        CommandError: there is none.
    """
    if name not in recipes.names():
        close = difflib.get_close_matches(name, recipes.names(), 3)
        meant = f" Did you mean {', '.join(close)}?" if close else ""
        raise CommandError(
            f"There is no recipe {name!r}.{meant} `keras-free-adv recipes` lists them."
        )
    return recipes.get(name)
