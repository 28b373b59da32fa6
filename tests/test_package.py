"""The package as a whole: light to import, and honest about what it offers."""

import ast
import importlib.metadata
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import keras_free_adv
from tests.conftest import said_by

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


def test_every_module_can_be_imported_where_the_system_is_not_unix():
    """On Windows there is no `fcntl`, nor what else only Unix has."""
    program = """
        import importlib, pkgutil, sys, warnings

        for name in ("fcntl", "grp", "pwd", "resource", "termios"):
            sys.modules[name] = None
        warnings.simplefilter("ignore")  # filelock's, that locks are weaker so
        import keras_free_adv

        found = pkgutil.walk_packages(keras_free_adv.__path__, "keras_free_adv.")
        names = [module.name for module in found]
        for backend in {"tensorflow", "jax", "torch"} - {keras_free_adv.backends.NAME}:
            names.remove(f"keras_free_adv.backends.{backend}")
        for name in names:
            importlib.import_module(name)
        print(len(names))
    """
    assert int(said_by(textwrap.dedent(program), forks=False)) > 100


def test_all_is_the_public_interface():
    assert sorted(keras_free_adv.__all__) == keras_free_adv.__all__
    for name in keras_free_adv.__all__:
        assert getattr(keras_free_adv, name).__doc__


def test_the_version_is_that_of_the_distribution():
    assert keras_free_adv.__version__ == importlib.metadata.version("keras_free_adv")


def test_the_version_is_that_of_a_source_tree(tmp_path):
    """Read from the source: neither the package nor its metadata are needed there."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("README.md", "LICENSE"):
        (tmp_path / name).touch()
    (tmp_path / "keras_free_adv").mkdir()
    source = (ROOT / "keras_free_adv/version.py").read_text()
    another = source.replace(keras_free_adv.__version__, "7.8.9")
    assert another != source
    (tmp_path / "keras_free_adv/version.py").write_text(another)
    (tmp_path / "keras_free_adv/__init__.py").write_text("import nothing_like_it")
    program = """
        import os, sys
        from setuptools import build_meta

        os.chdir(sys.argv[1])
        build_meta.prepare_metadata_for_build_wheel(sys.argv[1])
    """
    said_by(textwrap.dedent(program), tmp_path, forks=False)
    (folder,) = tmp_path.glob("*.dist-info")
    assert importlib.metadata.Distribution.at(folder).version == "7.8.9"


def test_the_version_is_written_in_one_place_of_the_package():
    version = keras_free_adv.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"({version})" in (ROOT / "CHANGELOG.md").read_text()
    written = [
        path.name
        for path in (ROOT / "keras_free_adv").rglob("*.py")
        if f'"{version}"' in path.read_text()
    ]
    assert written == ["version.py"]
    assert f'"{version}"' not in (ROOT / "pyproject.toml").read_text()


def test_another_backend_is_refused():
    program = "import keras; keras.backend.backend = lambda: 'numpy'; "
    ended = subprocess.run(
        [sys.executable, "-c", program + "import keras_free_adv"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Received: 'numpy'. Set KERAS_BACKEND to one of them" in ended.stderr


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


FRAMEWORKS = {"tensorflow", "tensorflow_datasets", "tensorflow_serving", "jax", "torch"}
# What may name a framework: tf.data, tf.distribute and TensorFlow's exports are theirs.
WITH_FRAMEWORK = (
    "backends",
    "callbacks/summaries.py",
    "data",
    "datasets",
    "distribution",
    "serving",
    "zoo/fused_batch_normalization.py",
)


def imported_by(path):
    """The packages that a module imports, also inside of functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_only_the_seams_to_a_framework_import_one():
    package = ROOT / "keras_free_adv"
    modules = list(package.rglob("*.py"))
    allowed = [package / name for name in WITH_FRAMEWORK]
    assert all(path.exists() for path in allowed)
    assert package / "backends/torch.py" in modules
    found = {
        str(path.relative_to(package)): names
        for path in modules
        if (names := FRAMEWORKS & set(imported_by(path)))
        and not any(one == path or one in path.parents for one in allowed)
    }
    assert found == {}
