"""`keras-free-adv recipes`."""

import difflib
import json
from typing import Any

from keras_free_adv import recipes
from keras_free_adv.command_line.command import CommandError
from keras_free_adv.tables import aligned


def run(values: Any, name: str | None = None) -> None:
    """Prints the names of the recipes, or the settings of one."""
    del values
    if name is None:
        print(aligned([_in_short(recipes.get(each)) for each in recipes.names()]))
        return
    print(json.dumps(named(name).to_dict(), indent=2))


def _in_short(recipe: recipes.Recipe) -> list[str]:
    arguments = {**recipe.method_arguments}
    m = f" m={arguments['replays']}" if "replays" in arguments else ""
    return [
        recipe.name,
        f"{recipe.method}{m}",
        recipe.model.removeprefix("keras.applications."),
        f"{recipe.updates:,} updates",
    ]


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
