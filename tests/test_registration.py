"""The package imports lazily, and Keras knows its classes all the same."""

import textwrap

import keras
import pytest

from keras_free_adv import FreeAdversarialModel
from tests.conftest import said_by

REGISTERED = """
names = keras.saving.get_custom_objects()
print(sorted(name for name in names if name.endswith("AdversarialModel")))
"""
ALL = "['keras_free_adv>FreeAdversarialModel', 'keras_free_adv>PGDAdversarialModel']"


def test_the_package_and_its_command_line_leave_keras_alone():
    program = """
        import sys
        import keras_free_adv.command_line.main
        heavy = {"keras", "numpy", "tensorflow", "jax", "torch"}
        print(sorted(heavy & set(sys.modules)))
    """
    assert said_by(textwrap.dedent(program), forks=False).strip() == "[]"


@pytest.mark.parametrize(
    "imports",
    [
        "import keras_free_adv, keras",
        "from keras_free_adv.attacks.pgd_attack import PGDAttack; import keras",
        "import keras_free_adv.losses; import keras",
    ],
)
def test_classes_are_registered_whatever_is_imported_first(imports):
    assert said_by(imports + "\n" + REGISTERED, forks=False).strip() == ALL


def test_a_saved_model_is_loaded_after_a_bare_import(tmp_path):
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    FreeAdversarialModel(network, epsilon=0.1).save(tmp_path / "wrapped.keras")
    program = """
        import sys
        import keras_free_adv
        import keras

        print(keras.saving.load_model(sys.argv[1]).epsilon)
    """
    path = tmp_path / "wrapped.keras"
    assert said_by(textwrap.dedent(program), path, forks=False).strip() == "0.1"


def test_a_module_that_brings_keras_in_is_as_any_other():
    """It is imported by Keras' import, while it is looked for."""
    program = """
        import importlib.resources
        import keras_free_adv.attacks.pgd_attack as module
        from keras_free_adv import attacks, PGDAttack

        print(module.PGDAttack is PGDAttack is attacks.PGDAttack)
        print(module.__spec__.origin == module.__file__)
        print(importlib.resources.files(attacks).joinpath("attack.py").is_file())
    """
    assert said_by(textwrap.dedent(program), forks=False).split() == ["True"] * 3
