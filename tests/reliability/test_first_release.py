"""Files that release 0.1.0 wrote load in this one, and give what they gave then."""

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_free_adv
from tests.conftest import said_by, small_images

FOLDER = Path(__file__).parent / "first_release"
ADVERSARIAL = {
    "free": keras_free_adv.FreeAdversarialModel,
    "pgd": keras_free_adv.PGDAdversarialModel,
    "trades": keras_free_adv.TRADESModel,
    "wide_resnet": keras_free_adv.FreeAdversarialModel,
    "preact_resnet18": keras_free_adv.FreeAdversarialModel,
}
# What `make.py` gave, for the constructor to have kept.
SETTINGS = {
    "free": {"replays": 2, "step_size": 0.05, "norm": "l2", "epsilon_warmup_steps": 3},
    "pgd": {"steps": 2, "random_start": False, "step_size": 0.125},
    "trades": {"steps": 2, "beta": 3.0},
}


@pytest.fixture(scope="module")
def expected():
    with np.load(FOLDER / "expected.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_it_predicts_what_it_did_and_trains_on(name, expected):
    model = keras.models.load_model(FOLDER / f"{name}.keras")
    assert type(model) is ADVERSARIAL[name]
    assert model.epsilon == 0.1
    for setting, value in SETTINGS.get(name, {}).items():
        assert getattr(model, setting) == value
    images = expected["images"]
    np.testing.assert_allclose(
        model.predict(images, verbose=0), expected[name], rtol=1e-5, atol=1e-5
    )
    # Two minibatches of eight, four epochs: the place in the data is kept.
    assert model._position.update == 8
    if f"{name} delta" in expected:
        np.testing.assert_array_equal(model.delta, expected[f"{name} delta"])
    assert int(model.optimizer.iterations) == 8
    model.fit(images, expected["labels"], batch_size=8, epochs=1, verbose=0)
    assert int(model.optimizer.iterations) == 10
    assert model._position.update == 10


@pytest.mark.parametrize("name", ["free", "wide_resnet"])
def test_the_model_in_it_is_plain(name, tmp_path, expected):
    model = keras.models.load_model(FOLDER / f"{name}.keras")
    model.model.save(tmp_path / "plain.keras")
    model.export(tmp_path / "served", verbose=False)
    np.save(tmp_path / "images.npy", expected["images"])
    program = """if True:
        import sys
        sys.modules["keras_free_adv"] = None  # an import of it fails
        import keras, numpy as np, tensorflow as tf
        folder = sys.argv[1]
        images = np.load(folder + "/images.npy")
        plain = keras.models.load_model(folder + "/plain.keras")
        np.save(folder + "/plain.npy", plain(images))
        served = tf.saved_model.load(folder + "/served")
        np.save(folder + "/served.npy", served.serve(images))
        """
    said_by(program, tmp_path, forks=False)
    for kind in ("plain", "served"):
        found = np.load(tmp_path / f"{kind}.npy")
        np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["free", "pgd", "trades"])
def test_nothing_in_it_is_code(name):
    """As Keras' safe mode wants it; what is not JSON is arrays in HDF5."""
    with zipfile.ZipFile(FOLDER / f"{name}.keras") as file:
        assert sorted(file.namelist()) == [
            "config.json",
            "metadata.json",
            "model.weights.h5",
        ]
        assert b"lambda" not in file.read("config.json").lower()


def test_no_source_unpickles():
    package = Path(keras_free_adv.__file__).parent
    for path in package.rglob("*.py"):
        text = path.read_text()
        assert "pickle" not in text.replace("allow_pickle=False", "")
        for load in text.split("np.load(")[1:]:
            assert "allow_pickle=False" in load[:100]
        assert "safe_mode=False" not in text


def test_a_lambda_is_refused_without_being_run(tmp_path):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(keras.layers.Lambda(lambda x: 2.0 * x)(inputs))
    network = keras.Model(inputs, keras.layers.Dense(3)(x))
    model = keras_free_adv.PGDAdversarialModel(network, 0.1, steps=1)
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="safe_mode"):
        keras.models.load_model(tmp_path / "model.keras")


def damaged(path, how):
    content = path.read_bytes()
    if how == "cut":
        content = content[: len(content) // 2]
    elif how == "flipped":
        middle = len(content) // 2
        content = content[:middle] + bytes([content[middle] ^ 255]) + content[middle:]
    else:
        content = b""
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_refused(how, tmp_path):
    """By Keras; no model comes of it."""
    model = keras_free_adv.FreeAdversarialModel(
        keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
        ),
        0.1,
        replays=2,
    )
    model.compile("sgd", "mse")
    images, _ = small_images(8, shape=(8, 8, 1))
    model.fit(images, np.zeros((8, 3)), epochs=2, verbose=0)
    path = tmp_path / "model.keras"
    model.save(path)
    damaged(path, how)
    with pytest.raises((ValueError, OSError, KeyError, zipfile.BadZipFile)):
        keras.models.load_model(path)
