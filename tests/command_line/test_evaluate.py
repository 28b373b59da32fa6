"""`keras-free-adv evaluate`."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv.command_line.commands import COMMANDS
from tests.command_line.program import fails, typed


def test_a_file_is_evaluated_with_what_the_flags_say(tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    model.save(tmp_path / "mine.keras")
    path = tmp_path / "mine.keras"
    flags = ["--attacks=pgd20", "--examples=16", "--verbose=0"]
    typed("evaluate", path, "digits", "--epsilon=8/255", *flags)
    (written,) = tmp_path.glob("mine-report-pgd20-16-digits-epsilon*.json")
    found = json.loads(written.read_text())
    assert found["threat_models"]["pgd20"]["epsilon"] == pytest.approx(8 / 255)


def test_a_card_beside_a_file_says_what_the_model_does_not_know(tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    path = tmp_path / "mine.keras"
    model.save(path)
    names = [f"digit {number}" for number in range(10)]
    card = {"epsilon": 0.1, "norm": "l2", "value_range": [-1, 1]}
    (tmp_path / "mine.card.json").write_text(json.dumps(card))
    flags = ["--attacks=pgd20", "--examples=8", "--verbose=0"]
    typed("evaluate", path, "digits", *flags)
    (written,) = tmp_path.glob("mine-report-*.json")
    threat = json.loads(written.read_text())["threat_models"]["pgd20"]
    assert threat["epsilon"] == pytest.approx(0.2)  # of a range that is two wide
    assert threat["norm"] == "l2"
    assert threat["value_range"] == [-1, 1]
    # Other classes than those of the data are noticed, as of a run.
    (tmp_path / "mine.card.json").write_text(json.dumps({**card, "class_names": names}))
    assert "other classes than the model" in fails("evaluate", path, "digits", *flags)


def test_the_scale_of_a_plain_model_is_read_off_its_first_layer(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    model.save(tmp_path / "mine.keras")
    path = tmp_path / "mine.keras"
    said = typed("export", path, tmp_path / "mine.tflite")
    assert "Pixels are in [0, 255]." in said
    flags = ["--epsilon=1/255", "--examples=16", "--attacks=paper,fgsm", "--verbose=0"]
    typed("evaluate", path, "digits", *flags)
    found = json.loads((next(tmp_path.glob("mine-report-*.json"))).read_text())
    for settings in found["threat_models"].values():
        assert settings["epsilon"] == pytest.approx(1)
        assert settings["value_range"] == [0, 255]
    assert not any("Pixels lie between" in said for said in found["warnings"])


def black_or_white():
    """A model that tells black images, class 0, from white ones, class 1."""
    network = keras.Sequential(
        [
            keras.Input((12, 10, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    kernel = np.stack([-np.ones(3), np.ones(3)], -1) * 10 / 3
    network.set_weights([kernel, np.array([5.0, -5.0])])
    return network


ENDINGS = ("png", "jpg", "bmp")


@pytest.fixture
def photos(tmp_path):
    """Photographs in three formats and of many sizes, of which two are no images."""
    generator = np.random.default_rng(0)
    for number in range(16):
        name = "white" if number % 2 else "black"
        path = tmp_path / "photos" / name / f"{number}.{ENDINGS[number % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (int(generator.integers(8, 40)), int(generator.integers(8, 40)), 3)
        pixels = generator.integers(0, 40, size) + (215 if number % 2 else 0)
        image = tf.constant(pixels, tf.uint8)
        if path.suffix == ".bmp":
            keras.utils.save_img(path, pixels, scale=False)
        else:
            encode = tf.io.encode_png if path.suffix == ".png" else tf.io.encode_jpeg
            path.write_bytes(encode(image).numpy())
    (tmp_path / "photos/black/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (tmp_path / "photos/white/empty.webp").touch()
    (tmp_path / "photos/white/notes.txt").write_text("not looked at")
    return tmp_path / "photos"


def test_a_folder_of_photographs_of_all_sizes_is_evaluated(tmp_path, photos):
    black_or_white().save(tmp_path / "my.keras")
    said = typed(
        "evaluate",
        tmp_path / "my.keras",
        photos,
        "--epsilon=8/255",
        "--attacks=pgd20,fgsm",
        f"--output={tmp_path / 'page.html'}",
        "--verbose=0",
    )
    assert "2 files cannot be decoded and are left out:" in said
    assert f"{photos}/black/broken.jpg (damaged)" in said
    assert f"{photos}/white/empty.webp (an empty file)" in said
    report = json.loads((tmp_path / "page.json").read_text())
    assert report["accuracy"]["natural"] == 1.0
    assert len(report["robust"]["natural"]) == 16
    # Classes in turn, and their names from the subfolders.
    assert report["predicted"]["labels"] == [0, 1] * 8
    assert report["predicted"]["class_names"] == ["black", "white"]
    page = (tmp_path / "page.html").read_text()
    assert "After a change of each pixel by at most 8 of 255 levels, " in page
    assert "Page: " in said
    # Nothing falls, and AutoAttack was not tried: so that is what comes next.
    assert "A first look: without --attacks, AutoAttack is tried too." in said
    assert "To make it robust" not in said
    # The command is on the page, as it was typed.
    typed_words = f"keras-free-adv evaluate {tmp_path / 'my.keras'} {photos}"
    assert typed_words in page
    assert "--attacks=pgd20,fgsm" in page


def test_a_model_that_does_not_withstand_is_told_what_comes_next(tmp_path, photos):
    """Bright or dark, told apart at the gray that the pictures have nearly."""
    network = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    network.layers[-1].set_weights(
        [np.tile([-4.0, 4.0], (3, 1)), np.array([6.0, -6.0])]
    )
    network.save(tmp_path / "my.keras")
    said = typed(
        *("evaluate", tmp_path / "my.keras", photos, "--epsilon=0.9"),
        *("--attacks=pgd20", "--verbose=0"),
    )
    assert "the model does not withstand it. No other attack can make that" in said
    assert f"photos/train --recipe=photos --weights={tmp_path / 'my.keras'}" in said


@pytest.mark.parametrize("kind", ["8-bit", "unit", "said", "function"])
def test_images_in_a_file_or_of_a_function_are_brought_to_the_models_scale(
    tmp_path, kind, monkeypatch
):
    """Of a model whose pixels are 0 to 255, and is right only there."""
    network = keras.Sequential(
        [keras.Input((12, 10, 3)), keras.layers.Rescaling(1 / 255), black_or_white()]
    )
    network.save(tmp_path / "my.keras")
    labels = np.arange(12) % 2
    levels = np.where(labels, 250, 5)[:, None, None, None] + np.zeros((12, 12, 10, 3))
    flags = ["--epsilon=8/255", "--attacks=fgsm", "--verbose=0"]
    data = tmp_path / "data.npz"
    if kind == "8-bit":
        np.savez(data, x_test=levels.astype("uint8"), y_test=labels)
    elif kind == "unit":
        np.savez(data, images=levels / 255, labels=labels)
    elif kind == "said":
        np.savez(data, x=levels.astype("float32"), y=labels)
        flags.append("--pixels=0,255")
    else:
        np.savez(tmp_path / "own.npz", x=levels, y=labels)
        (tmp_path / "own_data.py").write_text(
            "import numpy\n"
            "def data():\n"
            "    own = numpy.load('own.npz')\n"
            "    return own['x'].astype('float32'), own['y']\n"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        data = "own_data:data"
    output = tmp_path / "page.html"
    typed("evaluate", tmp_path / "my.keras", data, *flags, f"--output={output}")
    report = json.loads(output.with_suffix(".json").read_text())
    assert report["accuracy"]["natural"] == 1.0
    assert report["threat_models"]["fgsm"]["epsilon"] == pytest.approx(8.0)
    assert not any("Pixels lie between" in said for said in report["warnings"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_what_it_does_and_all_its_flags(name):
    said = typed(name, "--help")
    assert said.startswith(f"keras-free-adv {name}")
    assert all(len(line) <= 88 for line in said.splitlines())
    values = COMMANDS[name].flag_values()
    assert all(f"--{flag}" in said for flag in values if flag not in ("h", "help"))
    for example in COMMANDS[name].examples:
        assert example.startswith(f"keras-free-adv {name} ") or example.endswith(name)
        words = [word for word in example.split()[2:]]
        COMMANDS[name].parsed(words)  # what is shown can be typed


def test_what_the_docs_type_is_understood():
    root = Path(__file__).parents[2]
    typed_words = [
        line.split()[1:]
        for page in [*(root / "docs").rglob("*.md"), root / "README.md"]
        for line in page.read_text().replace("\\\n", " ").splitlines()
        if line.startswith("keras-free-adv ")
    ]
    assert len(typed_words) > 15
    for name, *words in typed_words:
        if name != "--help":
            COMMANDS[name].parsed(words)
