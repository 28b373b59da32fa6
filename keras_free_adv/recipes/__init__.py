"""Trainings as plain data: every row of the tables of Shafahi et al. (2019), and more.

    recipes.names()                            # all of them
    recipe = recipes.get("cifar10_wrn32_10_free8")
    recipe.to_dict()                           # data set, model, method, schedule, ...
    recipe.replaced(replays=4, epochs=100)     # half as long, dropping half as late

`keras-free-adv train --recipe=NAME` trains one, with the functions of
`recipes.building`.
"""

import difflib

from keras_free_adv import validation
from keras_free_adv.recipes.linear_cycle import LinearCycle
from keras_free_adv.recipes.recipe import Recipe, from_dict
from keras_free_adv.recipes.tables import TABLES

__all__ = ["LinearCycle", "Recipe", "from_dict", "get", "names", "table"]

_BY_NAME = {recipe.name: recipe for rows in TABLES.values() for recipe in rows}


def names() -> list[str]:
    """The names of all recipes, in the order of the tables.

    Example:
    >>> names()[3]
    'cifar10_wrn32_10_free8'
    """
    return list(_BY_NAME)


def get(name: str) -> Recipe:
    """A recipe by its name.

    Raises:
        ValueError: an unknown name; the message lists similar ones.

    Example:
    >>> recipe = get("cifar10_wrn32_10_free8")
    >>> recipe.method, recipe.method_arguments, recipe.updates
    ('free', {'replays': 8}, 80000)
    """
    if not isinstance(name, str) or name not in _BY_NAME:
        near = difflib.get_close_matches(str(name), _BY_NAME, 4) or list(_BY_NAME)
        raise ValueError(
            "Argument `name` must be the name of a recipe. Received: "
            f"name={name!r}. Did you mean {', '.join(near)}? recipes.names() lists all."
        )
    return _BY_NAME[name]


def table(name: str) -> list[Recipe]:
    """The rows of a table, in order, as recipes.

    "cifar10", "cifar100" and "imagenet" are tables of the paper; "cifar10_baselines"
    holds later methods, "cifar10_small" and "cifar100_small" rows that fit a CPU, and
    "digits" rows that take seconds.

    Raises:
        ValueError: an unknown name.

    Example:
    >>> [recipe.method for recipe in table("cifar10")]
    ['natural', 'free', 'free', 'free', 'free', 'pgd']
    """
    return list(TABLES[validation.one_of("name", name, TABLES)])
