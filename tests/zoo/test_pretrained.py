"""Models that come with the package: files, cards, and what the cards claim."""

import os
import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_free_adv import PGDAttack, datasets, zoo
from keras_free_adv.zoo import cards
from tests.conftest import outputs_of

ROOT = Path(__file__).parents[2]
NAMES = zoo.pretrained_names()


def images_of(card):
    """The first images that the card is of; without CIFAR-10, those in the package."""
    name = card.recipe["dataset"]
    there = Path(os.environ.get("TFDS_DATA_DIR", ""), name).is_dir()
    if name == "cifar10" and not there:
        name = "cifar10_sample"
    data = datasets.load(name, split="test", batch_size=1000)
    return [np.asarray(part) for part in next(iter(data))]


def test_there_are_models_and_each_has_a_card():
    assert {"digits_free", "digits_natural"} <= set(NAMES)
    stems = {path.stem for path in cards.MODELS.iterdir()}
    assert stems == set(NAMES)
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
        "setuptools"
    ]["package-data"]["keras_free_adv"]
    assert "zoo/models/*" in patterns  # or the wheel would be without them


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_small_plain_and_as_its_card_says(name):
    card, model = zoo.card(name), zoo.pretrained(name)
    assert card.name == name
    assert (cards.MODELS / f"{name}.keras").stat().st_size <= 3_000_000
    layers = {type(layer).__module__.split(".")[0] for layer in model.layers}
    assert layers == {"keras"}
    assert model.count_params() == card.parameters
    assert model.output_shape == (None, len(card.class_names))
    assert {weight.dtype for weight in model.weights} == {"float32"}
    images, labels = images_of(card)
    share, _, _, examples = card.accuracy["natural"]
    right = outputs_of(model, images[:examples]).argmax(1) == labels[:examples]
    if len(right) == examples:
        # Rounding differs between backends and machines: by an image, or two.
        assert abs(right.sum() - share * examples) <= 2
    else:  # a part of them: within four deviations
        assert abs(right.mean() - share) <= 4 * deviation(share, len(right))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_withstands_what_its_card_says(name):
    """One restart on a part, against ten on all: within four deviations."""
    card, model = zoo.card(name), zoo.pretrained(name)
    images, labels = (part[:100] for part in images_of(card))
    epsilon = card.attacks["pgd20x10"]["epsilon"]
    attack = PGDAttack(epsilon, steps=20, step_size=epsilon / 4, seed=0)
    found = keras.ops.convert_to_numpy(attack(images, labels, model=model))
    robust = (outputs_of(model, found).argmax(1) == labels).mean()
    expected = card.accuracy["pgd20x10"][0]
    assert robust >= expected - 4 * deviation(expected, 100)
    assert robust <= expected + 4 * np.sqrt(0.25 / 100)


def deviation(share, examples):
    """Of the share of so many examples."""
    return np.sqrt(share * (1 - share) / examples)


def test_a_card_is_read_as_it_was_written():
    card = zoo.card("digits_free")
    assert zoo.Card.from_json(card.to_json()) == card
    text = str(card)
    assert "epsilon 0.16" in text
    assert f"{card.accuracy['natural'][0]:.1%}" in text
    assert all(command in text for command in card.commands)
    assert card.commands[0].startswith("keras-free-adv train --recipe=")


def test_an_unknown_name_lists_those_there_are():
    for function in (zoo.card, zoo.pretrained):
        with pytest.raises(ValueError, match=r"`name` must be one of \['.*digits_free"):
            function("digits_fre")


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    for ending in (".json", ".keras"):
        file = f"digits_free{ending}"
        (tmp_path / file).write_bytes((cards.MODELS / file).read_bytes())
    path = tmp_path / "digits_free.keras"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr("keras_free_adv.zoo.pretrained_models.MODELS", tmp_path)
    with pytest.raises(OSError, match=r"digits_free.keras' is damaged.*Install"):
        zoo.pretrained("digits_free")
