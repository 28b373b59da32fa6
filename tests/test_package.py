"""The package as a whole: light to import, and honest about what it offers."""

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import keras_free_adv

ROOT = Path(__file__).parent.parent


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


def test_another_backend_is_refused():
    program = "import keras; keras.backend.backend = lambda: 'jax'; "
    ended = subprocess.run(
        [sys.executable, "-c", program + "import keras_free_adv"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Received: 'jax'. Set KERAS_BACKEND=tensorflow" in ended.stderr


def test_badges_of_the_readme_say_what_pyproject_says():
    readme = (ROOT / "README.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = project["requires-python"].removeprefix(">=")
    (keras,) = [d for d in project["dependencies"] if d.startswith("keras")]
    license_ = project["license"].replace("-", "--")
    for said in (
        f"python-{python}+",
        f"keras-{keras.removeprefix('keras>=')}+",
        f"license-{license_}-",
        "typed-mypy",
    ):
        assert f"shields.io/badge/{said}" in readme
    assert (ROOT / "keras_free_adv/py.typed").exists()
