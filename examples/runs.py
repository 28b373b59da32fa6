"""A run is a folder: settings.json, model.keras, history.json, and reports."""

import json
import platform
import re
from pathlib import Path
from typing import Any

import keras
from absl import app, flags, logging

import keras_free_adv
from keras_free_adv import backends, files, pixel_scale, recipes, renamed_arguments
from keras_free_adv.recipes import Recipe

SETTINGS, MODEL, HISTORY = "settings.json", "model.keras", "history.json"


def quiet() -> None:
    """Leaves warnings of TensorFlow and TFDS to be seen, and no more."""
    logging.set_verbosity(logging.WARNING)


def changed_recipe(name: str, changes: list[str]) -> Recipe:
    """A recipe, with `KEY=VALUE` settings changed; a wrong one is a usage error."""
    try:
        recipe = recipes.get(name)
        pairs = [change.partition("=") for change in changes]
        for key, equals, _ in pairs:
            if not equals:
                raise ValueError(f"--set takes KEY=VALUE. Received: {key!r}.")
        return recipe.replaced(**{key: value_of(text) for key, _, text in pairs})
    except (TypeError, ValueError) as error:
        raise app.UsageError(str(error)) from error


def value_of(text: str) -> Any:
    """A number (8/255 is one too), a list or dict as JSON, true, null, or a word."""
    quotient = re.fullmatch(r"([-+.\de]+)/([-+.\de]+)", text)
    try:
        if quotient:
            return float(quotient[1]) / float(quotient[2])
        return json.loads(text)
    except (ValueError, ZeroDivisionError):
        return text


def number(name: str, value: Any) -> float:
    """A number above zero, given as 0.03 or 8/255."""
    found = value_of(str(value))
    if isinstance(found, bool) or not isinstance(found, (int, float)) or found <= 0:
        raise app.UsageError(f"--{name} must be a number above 0. Received: {value}.")
    return float(found)


def setting(name: str, of_recipe: Any) -> Any:
    """A flag's value, or the recipe's, or an error that names the flag."""
    value = flags.FLAGS[name].value
    if value is None and of_recipe is None:
        raise app.UsageError(f"--{name} is needed for a model that is not a run.")
    return of_recipe if value is None else value


def environment() -> dict[str, Any]:
    """What a result may depend on besides the settings."""
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        **backends.versions(),
        "keras_free_adv": keras_free_adv.__version__,
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
    """A saved model; one that is damaged is a usage error."""
    try:
        return keras.models.load_model(path)
    except Exception as error:  # zip, HDF5, JSON and Keras each have their own
        raise app.UsageError(
            f"{path} cannot be loaded: it is damaged, or no .keras file. Put a copy of "
            f"it back, or remove it. ({type(error).__name__}: {error})"
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


def _damaged(path: Path, reason: Any) -> app.UsageError:
    return app.UsageError(
        f"{path} is damaged: {reason}. Put a copy of it back, or move {path.parent} "
        "away."
    )


def check_is_of(folder: Path, recipe: Recipe, seed: int) -> None:
    """Raises a usage error if a folder holds the run of something else."""
    path = folder / SETTINGS
    if not path.exists():
        return
    settings = _settings_of(folder)
    expected = json.loads(json.dumps({**recipe.to_dict(), "seed": seed}))
    changed = sorted(n for n in expected if settings.get(n) != expected[n])
    if changed:
        raise app.UsageError(
            f"{folder} holds a run that is not {recipe.name} with seed {seed}: "
            f"{', '.join(changed)} differ. Move it, or give another --output."
        )


def settle(folder: Path, recipe: Recipe, seed: int, deterministic: bool) -> None:
    """Writes the settings, or checks that the run to continue has the same.

    Raises:
        app.UsageError: the folder holds another run.
    """
    settings = {**recipe.to_dict(), "seed": seed, "deterministic": deterministic}
    settings = json.loads(json.dumps(settings))
    path = folder / SETTINGS
    if not path.exists():
        both = {"settings": settings, "environment": environment()}
        files.write_text(path, json.dumps(both, indent=2))
        return
    before = _settings_of(folder)
    names = {*settings, *before}
    changed = sorted(n for n in names if settings.get(n) != before.get(n))
    if changed:
        listed = ", ".join(
            f"{name}={before.get(name)} (now {settings.get(name)})" for name in changed
        )
        raise app.UsageError(
            f"{folder} holds a run with other settings: {listed}. Give another "
            "--output, or remove the folder."
        )


def model_and_recipe(flag: str) -> tuple[Path, Recipe | None]:
    """The .keras file that a flag names, and the recipe, if it names a run."""
    path = Path(flags.FLAGS[flag].value)
    recipe = None
    if path.is_dir():
        path, recipe = path / MODEL, recipe_of(path, flag)
    if not path.exists():
        raise app.UsageError(f"--{flag}: there is no {path}.")
    return path, recipe


def pixel_range(model: keras.Model) -> tuple[float, float]:
    """The range of the model's pixels, from --value_range or the model."""
    said = flags.FLAGS.value_range
    if said is not None:
        try:
            low, high = map(float, said)
        except ValueError as error:
            raise app.UsageError(
                "--value_range must be two numbers, such as 0,255. Received: "
                f"{','.join(said)}."
            ) from error
        said = (low, high)
    try:
        return pixel_scale.resolve(said, model)
    except ValueError as error:
        raise app.UsageError(f"--value_range: {error}") from error


def recipe_of(folder: Path, flag: str = "model") -> Recipe:
    """The recipe of a run, which a flag names."""
    if not (folder / SETTINGS).exists():
        raise app.UsageError(
            f"--{flag}: {folder} is not the folder of a run: it has no {SETTINGS}. "
            "Pass a .keras file, or the folder that train.py wrote."
        )
    settings = _settings_of(folder)
    for name in ("seed", "deterministic"):
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
