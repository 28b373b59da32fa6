"""A run is a folder: settings.json, model.keras, history.json, and reports."""

import json
import platform
import warnings
from pathlib import Path
from typing import Any

import keras

from keras_free_adv import backends, files, recipes, renamed_arguments
from keras_free_adv.command_line.command import CommandError
from keras_free_adv.command_line.values import value_of
from keras_free_adv.evaluation.robustness_report import RobustnessReport
from keras_free_adv.recipes import Recipe
from keras_free_adv.version import __version__

SETTINGS, MODEL, HISTORY = "settings.json", "model.keras", "history.json"

# Settings of a run that are none of its recipe.
_BESIDES = (
    *("seed", "deterministic", "weights", "class_names", "own_data"),
    *("image_size", "crop", "pixels", "split"),
)
# What runs of the first release do not say of themselves.
_BEFORE = {"optimizer": "sgd", "training_epsilon": None}


def changed_recipe(name: str, changes: list[str]) -> Recipe:
    """A recipe, with `KEY=VALUE` settings changed; a wrong one is an error."""
    try:
        recipe = recipes.get(name)
        pairs = [change.partition("=") for change in changes]
        for key, equals, _ in pairs:
            if not equals:
                raise ValueError(f"--set takes KEY=VALUE. Received: {key!r}.")
        return recipe.replaced(**{key: value_of(text) for key, _, text in pairs})
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from error


def environment() -> dict[str, Any]:
    """What a result may depend on besides the settings."""
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        **backends.versions(),
        "keras_free_adv": __version__,
        "machine": platform.machine(),
        "devices": devices(),
    }


def devices() -> list[str]:
    """The devices that Keras computes on."""
    if keras.backend.backend() == "torch":  # for which Keras cannot list them
        return [str(keras.ops.zeros(1).device)]
    return keras.distribution.list_devices()


def folder_name(recipe: Recipe, seed: int) -> str:
    """Where a run is unless the user says: a recipe of its own settings, and a seed."""
    seeded = f"-seed{seed}" if seed else ""
    changed = "" if recipe == recipes.get(recipe.name) else "-changed"
    return f"{recipe.name}{changed}{seeded}"


def loaded(path: Path) -> keras.Model:
    """A saved model; one that is damaged is an error of the command."""
    try:
        with warnings.catch_warnings():
            # Of an optimizer that never trained; no command goes on with it.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            return keras.models.load_model(path)
    except Exception as error:  # zip, HDF5, JSON and Keras each have their own
        said = (str(error).splitlines() or ["nothing"])[0]
        raise CommandError(
            f"{path} cannot be loaded: it is damaged, no .keras file, or needs a class "
            f"of your own. Keras says: {type(error).__name__}: {said}"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(found, dict):
        raise _damaged(path, f"it holds {type(found).__name__}, and no settings")
    return found


def _settings_of(folder: Path) -> dict[str, Any]:
    settings = _read(folder / SETTINGS).get("settings")
    if not isinstance(settings, dict):
        raise _damaged(folder / SETTINGS, "it holds no settings")
    return renamed_arguments.with_new_names(settings, renamed_arguments.RECIPE)


def _damaged(path: Path, reason: Any) -> CommandError:
    return CommandError(
        f"{path} is damaged: {reason}. Put a copy of it back, or move {path.parent} "
        "away."
    )


def check_is_of(folder: Path, recipe: Recipe, seed: int) -> None:
    """Raises if a folder holds the run of something else."""
    path = folder / SETTINGS
    if not path.exists():
        return
    settings = _settings_of(folder)
    expected = json.loads(json.dumps({**recipe.to_dict(), "seed": seed}))
    settings = {**_BEFORE, **settings}
    changed = sorted(n for n in expected if settings.get(n) != expected[n])
    if changed:
        raise CommandError(
            f"{folder} holds a run that is not {recipe.name} with seed {seed}: "
            f"{', '.join(changed)} differ. Move it, or give another --output."
        )


def settle(
    folder: Path, recipe: Recipe, seed: int, deterministic: bool, **others: Any
) -> None:
    """Writes the settings, or checks that the run to continue has the same.

    Args:
        folder: of the run.
        recipe: its settings.
        seed: of all that is random.
        deterministic: whether TensorFlow's operations are deterministic.
        **others: what else the run depends on; None for what it does not.

    Raises:
        CommandError: the folder holds another run.
    """
    others = {name: value for name, value in others.items() if value}
    settings = {**recipe.to_dict(), "seed": seed, "deterministic": deterministic}
    settings = json.loads(json.dumps({**settings, **others}))
    path = folder / SETTINGS
    if not path.exists():
        both = {"settings": settings, "environment": environment()}
        files.write_text(path, json.dumps(both, indent=2))
        return
    before = {**_BEFORE, **_settings_of(folder)}
    names = {*settings, *before}
    if "class_names" not in before:
        names.discard("class_names")
    changed = sorted(n for n in names if settings.get(n) != before.get(n))
    if changed:
        listed = ", ".join(
            f"{name}={before.get(name)} (now {settings.get(name)})" for name in changed
        )
        raise CommandError(
            f"{folder} holds a run with other settings: {listed}. Give another "
            "--output, or remove the folder."
        )


def recipe_of(folder: Path) -> Recipe:
    """The recipe of a run."""
    if not (folder / SETTINGS).exists():
        raise CommandError(
            f"{folder} is not the folder of a run: it has no {SETTINGS}. Pass a .keras "
            "file, or the folder that `keras-free-adv train` wrote."
        )
    settings = _settings_of(folder)
    for name in _BESIDES:
        settings.pop(name, None)
    try:
        return recipes.from_dict(settings)
    except (TypeError, ValueError) as error:
        raise _damaged(folder / SETTINGS, error) from error


def history_of(folder: Path) -> dict[str, list[float]]:
    """What `fit` logged, epoch by epoch."""
    return _read(folder / HISTORY)


def report_path(folder: Path, attacks: str, examples: int, other: str = "") -> Path:
    """Where a run keeps a report: of which attacks, how many examples, what else."""
    return folder / f"report-{attacks.replace(',', '-')}-{examples}{other}.json"


def class_names_of(folder: Path) -> tuple[str, ...] | None:
    """The names of the classes that a run was trained on, if they were kept."""
    names = _settings_of(folder).get("class_names")
    return None if names is None else tuple(names)


def has_own_data(folder: Path) -> bool:
    """Whether a run was trained on data that its user brought."""
    return bool(_settings_of(folder).get("own_data"))


def report_of(folder: Path, attacks: str, examples: int) -> RobustnessReport | None:
    """A report that a run keeps, or None if it is not made yet."""
    path = report_path(folder, attacks, examples)
    return RobustnessReport.from_json(path.read_text()) if path.exists() else None
