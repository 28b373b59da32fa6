"""The package as a whole: light to import, and honest about what it offers."""

import importlib.metadata
import subprocess
import sys

import keras_free_adv


def modules_after(statement):
    program = f"import keras, tensorflow, sys\n{statement}\nprint(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(ended.stdout.split())


def test_importing_it_loads_no_data_or_plotting_library():
    ours = modules_after("import keras_free_adv") - modules_after("")
    loaded = {name.split(".")[0] for name in ours}
    assert "keras_free_adv" in loaded
    assert not loaded & {"sklearn", "matplotlib", "tensorflow_datasets", "absl"}


def test_all_is_the_public_interface():
    assert sorted(keras_free_adv.__all__) == keras_free_adv.__all__
    for name in keras_free_adv.__all__:
        assert getattr(keras_free_adv, name).__doc__


def test_the_version_is_that_of_the_distribution():
    assert keras_free_adv.__version__ == importlib.metadata.version("keras_free_adv")
