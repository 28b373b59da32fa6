"""Every public name has a subpackage, and imports between subpackages point one way."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import keras
import pytest

import keras_free_adv

FOLDER = Path(keras_free_adv.__file__).parent
SUBPACKAGES = [
    module.name
    for module in pkgutil.iter_modules([str(FOLDER)])
    # plotting needs matplotlib, and command_line is a program, not a library.
    if module.ispkg and module.name not in ("command_line", "plotting")
]
# From the top down; within a line, nothing imports the other.
LAYERS = [
    ["command_line"],
    ["comparison"],
    ["plotting", "serving", "teaching"],
    ["recipes"],
    ["callbacks"],
    ["evaluation", "training"],
    ["attacks", "datasets"],
    ["backends"],
    ["data", "distribution"],  # replay slices minibatches, and slices have structures
    ["optimizers", "zoo"],
]


def subpackage(name):
    return importlib.import_module(f"keras_free_adv.{name}")


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_all_of_a_subpackage_is_importable(name):
    module = subpackage(name)
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__)
    assert sorted(module.__all__) == module.__all__
    names = {}
    exec(f"from keras_free_adv.{name} import *", names)
    for each in module.__all__:
        assert names[each] is getattr(module, each)
        assert inspect.getdoc(names[each])


def test_the_package_and_its_subpackages_offer_the_same():
    for name in set(keras_free_adv.__all__) - set(SUBPACKAGES):
        offered = getattr(keras_free_adv, name)
        _, kind, _ = offered.__module__.split(".", 2)
        assert name in subpackage(kind).__all__
        assert getattr(subpackage(kind), name) is offered
    for kind in (
        *("attacks", "callbacks", "comparison", "data", "evaluation", "serving"),
        "training",
    ):
        assert set(subpackage(kind).__all__) <= set(keras_free_adv.__all__)


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_every_class_that_keras_saves_is_offered(name):
    """Those are what users make; a base of theirs is offered by name above."""
    module = subpackage(name)
    registered = [
        each
        for each in keras.saving.get_custom_objects().values()
        if each.__module__.startswith(f"keras_free_adv.{name}.")
        and not each.__name__.startswith("_")
    ]
    offered = [getattr(module, public) for public in module.__all__]
    for each in registered:
        assert each in offered, each
    if name in ("attacks", "training"):
        assert len(registered) >= 3


def imports_of(path):
    """The modules of the package that a file imports as it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module == "keras_free_adv":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package, _, module = node.module.partition(".")
            if package == "keras_free_adv":
                yield module


def test_imports_point_one_way():
    height = {name: -at for at, names in enumerate(LAYERS) for name in names}
    assert set(height) == {*SUBPACKAGES, "command_line", "plotting"}
    seen = set()
    for path in FOLDER.rglob("*.py"):
        folder = path.relative_to(FOLDER).parts[0]
        if path.name.startswith("__") and path.parent == FOLDER:
            continue
        for module in imports_of(path):
            imported = module.split(".")[0]
            if imported not in height or imported == folder:
                continue
            # A module that stands beside the subpackages imports none but the backend.
            if folder not in height and imported == "backends":
                continue
            assert folder in height, f"{path} imports {module}"
            together = {folder, imported} == {"data", "distribution"}
            below = height[imported] < height[folder]
            assert below or together, f"{path} imports {module}"
            seen.add((folder, imported))
    assert ("training", "distribution") in seen
    assert ("callbacks", "evaluation") in seen
