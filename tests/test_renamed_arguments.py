"""The first release's names of arguments: its files load, its calls are explained."""

import json
import zipfile

import keras
import numpy as np
import pytest

from keras_free_adv import (
    BackupAndRestore,
    CollapseGuard,
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    RobustnessEvaluation,
    TRADESModel,
    recipes,
)
from keras_free_adv.callbacks.backups import Backups
from keras_free_adv.evaluation import model_identity
from keras_free_adv.renamed_arguments import TRAINING
from tests.conftest import from_logits, small_images, small_network

OLD_NAMES = {new: old for old, new in TRAINING.items()}
MODELS = [FreeAdversarialModel, PGDAdversarialModel, TRADESModel]


def named_network():
    image = keras.Input((6, 6, 1), name="image")
    extra = keras.Input((2,), name="extra")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(image), extra])
    return keras.Model([image, extra], keras.layers.Dense(3)(joined))


def with_old_names(config):
    """What the first release would have written, of any nesting."""
    if isinstance(config, dict):
        return {OLD_NAMES.get(k, k): with_old_names(v) for k, v in config.items()}
    return [with_old_names(v) for v in config] if isinstance(config, list) else config


def rewrite_config(path):
    """Gives the arguments in a `.keras` file their old names."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    config = with_old_names(json.loads(parts["config.json"]))
    assert {"perturb", "epsilon_warmup"} <= config["config"].keys()
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return config


@pytest.mark.parametrize("kind", MODELS)
def test_a_file_with_old_names_loads_to_the_same_model(kind, tmp_path):
    path = tmp_path / "model.keras"
    model = kind(named_network(), 0.1, perturbed_input="image", epsilon_warmup_steps=3)
    model.save(path)
    config = rewrite_config(path)
    loaded = keras.models.load_model(path)
    assert (loaded.perturbed_input, loaded.epsilon_warmup_steps) == ("image", 3)
    assert (
        json.loads(loaded.to_json())["config"] == json.loads(model.to_json())["config"]
    )
    # An interrupted evaluation of it goes on.
    architecture = model_identity.identity_of(loaded)["architecture"]
    assert architecture == model_identity.config_checksum(config)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("old", "new", "value"), [(*n, "x") for n in TRAINING.items()])
def test_a_model_names_the_new_argument(kind, old, new, value):
    with pytest.raises(TypeError, match=f"`{old}` is now called `{new}`.*{old}='x'"):
        kind(small_network(), 0.1, **{old: value})


def test_a_subclass_may_have_an_argument_of_an_old_name():
    class Weighted(FreeAdversarialModel):
        def __init__(self, *args, perturb, **kwargs):
            super().__init__(*args, **kwargs)
            self.perturb = perturb

        def get_config(self):
            return {**super().get_config(), "perturb": self.perturb}

    model = Weighted(small_network(), 0.1, perturb=0.5)
    assert Weighted.from_config(model.get_config()).perturb == 0.5


CALLBACKS = [
    (
        lambda **named: CollapseGuard(small_images(4), **named),
        {"restore_best": False},
        {"restore_best_weights": False},
    ),
    (
        lambda **named: RobustnessEvaluation(small_images(4), PGDAttack(0.1), **named),
        {"every": 3},
        {"evaluation_freq": 3},
    ),
]


@pytest.mark.parametrize(("make", "old", "new"), CALLBACKS)
def test_a_callback_of_old_names_loads(make, old, new):
    (old_name,), (new_name,) = old, new
    callback = make(**new)
    serialized = keras.saving.serialize_keras_object(callback)
    serialized["config"][old_name] = serialized["config"].pop(new_name)
    loaded = keras.saving.deserialize_keras_object(serialized)
    assert getattr(loaded, new_name) == new[new_name]


@pytest.mark.parametrize(("make", "old", "new"), CALLBACKS)
def test_a_callback_names_the_new_argument(make, old, new):
    (old_name,), (new_name,) = old, new
    with pytest.raises(TypeError, match=f"`{old_name}` is now called `{new_name}`"):
        make(**old)


def test_a_backup_with_old_names_is_restored(tmp_path):
    images, labels = small_images(16)

    def fit(epochs, steps=3):
        keras.utils.set_random_seed(0)
        network = small_network()
        model = FreeAdversarialModel(
            network, 0.1, replays=2, epsilon_warmup_steps=steps
        )
        model.compile("sgd", from_logits())
        backup = BackupAndRestore(tmp_path, delete_checkpoint=False)
        return model.fit(
            images, labels, batch_size=8, epochs=epochs, verbose=0, callbacks=[backup]
        )

    before = fit(2)
    backup = Backups(tmp_path).read()
    metadata, weights = with_old_names(backup.metadata), backup.weights.read_bytes()
    assert metadata["model"]["settings"]["epsilon_warmup"] == 3
    with Backups(tmp_path).write(metadata, backup.arrays) as path:
        path.write_bytes(weights)
    with pytest.raises(ValueError, match="settings"):
        fit(4, steps=5)
    after = fit(4)
    assert after.epoch == [0, 1, 2, 3]
    np.testing.assert_array_equal(after.history["loss"][:2], before.history["loss"])


def test_a_recipe_with_old_names_is_read():
    recipe = recipes.get("cifar10_small_free8").replaced(epsilon_warmup_steps=7)
    settings = recipe.to_dict()
    settings["epsilon_warmup"] = settings.pop("epsilon_warmup_steps")
    assert recipes.from_dict(settings) == recipe


@pytest.mark.parametrize(
    "change", [recipes.get("cifar10_small_free8").replaced, recipes.Recipe]
)
def test_a_recipe_names_the_new_setting(change):
    with pytest.raises(TypeError, match="`epsilon_warmup` is now called"):
        change(epsilon_warmup=7)
