"""`keras-free-adv compare`: what it prints, writes, and goes on with."""

import json

import keras
import numpy as np
import pytest

from tests.command_line.program import ended, typed


@pytest.fixture
def photos(tmp_path):
    """Bright and dark photographs of all sizes, to train on and others to test on."""
    draw = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 12)):
        for number in range(count):
            bright = number % 2
            folder = tmp_path / part / ("bright" if bright else "dark")
            folder.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(0, 60, (18 + number % 5, 14, 3)) + 190 * bright
            keras.utils.save_img(folder / f"{number}.png", pixels, scale=False)
    return tmp_path


def test_photographs_are_compared_on_and_the_networks_can_be_evaluated(photos):
    words = [
        "compare",
        photos / "train",
        photos / "test",
        "--methods=natural,free2",
        "--minutes=0.03",
        "--epochs=2",
        "--set=batch_size=8",
        "--set=width=4",
        "--set=optimizer=sgd",  # the graphs of Muon's updates take long to make
        "--image_size=16",
        "--attacks=fgsm",
        "--verbose=0",
        f"--output={photos / 'out'}",
    ]
    said = typed(*words)
    assert "Most robust under fgsm: " in said
    assert "free2" in said
    page = (photos / "out" / "comparison.html").read_text()
    assert "bright" in page
    plan = json.loads((photos / "out" / "plan.json").read_text())
    assert list(plan["epoch_updates"]) == ["natural", "free2"]
    assert plan["settings"]["seconds"] == pytest.approx(1.8)
    assert plan["settings"]["epsilon"] == pytest.approx(8 / 255)
    network = photos / "out" / "free2" / "model.keras"
    assert keras.models.load_model(network).output_shape == (None, 2)
    assert typed(*words) == said  # nothing is trained again
    flags = ["--attacks=fgsm", "--epsilon=8/255", "--verbose=0"]
    assert "classified correctly" in typed("evaluate", network, photos / "test", *flags)


def test_a_data_set_has_its_own_test_split_and_a_network_may_be_brought(tmp_path):
    network = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(2.0, offset=-1.0),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    network.save(tmp_path / "my.keras")
    status, said, told = ended(
        "compare",
        "digits",
        f"--weights={tmp_path / 'my.keras'}",
        "--recipe=digits_free8",
        "--methods=fgsm_rs",
        "--minutes=0.02",
        "--epochs=1",
        "--epsilon=0.1",
        "--attacks=fgsm",
        "--examples=50",
        "--verbose=0",
        f"--output={tmp_path / 'out'}",
    )
    assert status == 0, told
    assert "fgsm_rs" in said
    assert "from_logits" not in told  # what ends in softmax returns probabilities
    trained = keras.models.load_model(tmp_path / "out" / "fgsm_rs" / "model.keras")
    assert [layer.name for layer in trained.layers] == [
        layer.name for layer in network.layers
    ]


def test_a_training_that_stays_at_chance_is_told(tmp_path):
    draw = np.random.default_rng(0)
    images = draw.uniform(0, 1, (1200, 8, 8, 1)).astype("float32")
    labels = draw.integers(0, 10, 1200)
    np.savez(tmp_path / "noise.npz", x=images, y=labels)
    status, _, told = ended(
        *("compare", tmp_path / "noise.npz", tmp_path / "noise.npz"),
        *("--recipe=digits_free8", "--set=batch_size=16", "--methods=fgsm_rs"),
        *("--minutes=0.15", "--epochs=2", "--attacks=fgsm", "--examples=50"),
        *("--verbose=0", f"--output={tmp_path / 'out'}"),
    )
    assert status == 0, told
    assert "Training accuracy has stayed at chance" in told
    assert "Warning." in (tmp_path / "out" / "comparison.html").read_text()
