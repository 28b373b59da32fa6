import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

from keras.ops import convert_to_numpy

from keras_free_adv import FABAttack, PGDAttack, SquareAttack
from keras_free_adv.plotting import plot_adversarial_examples
from tests.conftest import small_images, small_network
from tests.plotting.models import (
    check_looks,
    linear_data,
    linear_network,
    linear_weights,
)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_model_gets_its_perturbation_and_its_prediction(tmp_path, channels):
    images, labels = small_images(3, (6, 6, channels))
    network = small_network((6, 6, channels))
    attack = PGDAttack(0.25, steps=3, seed=0)
    figure = plot_adversarial_examples(
        {"one": network, "two": network},
        images,
        labels,
        attack,
        class_names=["a", "b", "c"],
    )
    axes = np.array(figure.axes).reshape(5, 3)
    # What is drawn is the image and what the model really predicts of it.
    adversarial = convert_to_numpy(attack(images, labels, model=network))
    predicted = convert_to_numpy(network(adversarial)).argmax(1)
    for column in range(3):
        drawn = axes[2, column].images[0].get_array()
        np.testing.assert_allclose(
            drawn[..., :channels], adversarial[column], atol=1e-6
        )
        title = axes[2, column].get_title()
        assert "abc"[predicted[column]] == title.split()[1][0]
        assert title.startswith("✓" if predicted[column] == labels[column] else "✗")
    assert "× 2" in axes[1, 0].get_ylabel()  # 0.5 / 0.25
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_what_the_model_made_of_the_clean_image_is_said():
    images, labels = small_images(3)
    network = small_network(softmax=True)
    attack = PGDAttack(0.1, steps=1, seed=0)
    figure = plot_adversarial_examples(network, images, labels, attack)
    clean = convert_to_numpy(network(images))
    for axis, shares in zip(figure.axes[3:6], clean, strict=True):
        assert axis.get_title() == f"was {shares.argmax()}, {shares.max():.0%}"
    assert "ε = 0.1" in figure.axes[3].get_ylabel()


def test_without_perturbations_each_model_has_one_row():
    images, labels = small_images(3)
    network = small_network()
    attack = PGDAttack(0.25, steps=3, seed=0)
    figure = plot_adversarial_examples(
        {"one": network, "two": network}, images, labels, attack, perturbations=False
    )
    axes = np.array(figure.axes).reshape(3, 3)
    adversarial = convert_to_numpy(attack(images, labels, model=network))
    for row in (1, 2):
        for axis, expected in zip(axes[row], adversarial, strict=True):
            drawn = axis.images[0].get_array()[..., :1]
            np.testing.assert_allclose(drawn, expected, atol=1e-6)
    assert [axes[row, 0].get_ylabel() for row in (1, 2)] == ["one sees", "two sees"]


@pytest.mark.parametrize("epsilon", [0.001, 1.0])
def test_a_targeted_attack_reaches_the_label_or_not(tmp_path, epsilon):
    images, _ = small_images(3)
    network = small_network()
    aims = (convert_to_numpy(network(images)).argmax(1) + 1) % 3
    attack = PGDAttack(epsilon, steps=20, targeted=True, seed=0)
    figure = plot_adversarial_examples(
        network, images, aims, attack, class_names=["plane", "automobile", "frog"]
    )
    predicted = network(attack(images, aims, model=network))
    reached = convert_to_numpy(predicted).argmax(1) == aims
    assert reached.all() == (epsilon == 1.0)
    for column, aim in enumerate(aims):
        name = ["plane", "automobile", "frog"][aim]
        assert figure.axes[column].get_title() == f"→ {name}"
        title = figure.axes[6 + column].get_title()
        # A cross, as for any attack that reaches its aim.
        assert title.startswith(f"✗ {name},\n") == bool(reached[column])
    check_looks(figure, tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("scale", "attack", "said"),
    [
        # Margins of thousands: the cross-entropy is exactly 0 in float32.
        (1e5, PGDAttack(1e-6, seed=0), "no\ngradient"),
        (1e5, PGDAttack(1e-6, random_start=False), "no\ngradient"),
        (1e5, PGDAttack(1e-6, loss="cw_margin", seed=0), None),
        # No boundary in reach: these return the image, whatever its gradient.
        (1.0, FABAttack(1e-6, steps=2, seed=0), "no\nchange"),
        (0.0, SquareAttack(0.1, queries=2, seed=0), "no\nchange"),
        (1.0, PGDAttack(0.1, seed=0), None),
    ],
)
def test_where_nothing_was_added_the_reason_is_said(tmp_path, scale, attack, said):
    images, labels = linear_data(3)
    network = linear_network(scale * linear_weights())
    labels = convert_to_numpy(network(images)).argmax(-1)
    figure = plot_adversarial_examples(network, images, labels, attack)
    for axis in figure.axes[3:6]:
        assert [text.get_text() for text in axis.texts] == ([said] if said else [])
    check_looks(figure, tmp_path / "figure.png")


def test_a_model_of_another_kind_is_refused_before_any_work():
    images, labels = small_images(2)
    with pytest.raises(TypeError, match="`model`.*str for 'b'"):
        plot_adversarial_examples(
            {"a": small_network(), "b": "x"}, images, labels, PGDAttack(0.1)
        )


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"`images`.*1 or 3.*\(2, 36\)"):
        plot_adversarial_examples(
            small_network(), np.zeros((2, 36)), np.zeros(2), PGDAttack(0.1)
        )
