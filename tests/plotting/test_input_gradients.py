import keras
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

from keras_free_adv.plotting import plot_input_gradients
from tests.conftest import small_images, small_network
from tests.plotting.models import (
    check_looks,
    gradients,
    linear_data,
    linear_network,
    linear_weights,
)


def drawn(axis):
    return np.asarray(axis.images[0].get_array())[..., :1]


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("scale", ["image", "model"])
def test_gray_values_are_the_gradient_in_three_deviations(tmp_path, softmax, scale):
    images, labels = linear_data(2)
    models = {
        "one": linear_network(linear_weights(), softmax),
        "two": linear_network(3 * linear_weights(1), softmax),
    }
    figure = plot_input_gradients(models, images, labels, scale=scale)
    places = np.array(figure.axes[:6]).reshape(3, 2)  # a column is a model
    for row in range(2):
        np.testing.assert_allclose(drawn(places[0, row]), images[row], atol=1e-6)
    for column, weights in enumerate((linear_weights(), 3 * linear_weights(1)), 1):
        expected = gradients(weights, images, labels)
        for row in range(2):
            largest = 3 * (expected if scale == "model" else expected[row]).std()
            gray = np.clip(0.5 + 0.5 * expected[row] / largest, 0, 1)
            np.testing.assert_allclose(drawn(places[column, row]), gray, atol=1e-4)
            if scale == "image":
                said = places[column, row].get_xlabel()
                assert said == f"±{largest:.2g} nats / unit"
        if scale == "model":
            bar = figure.axes[5 + column]
            ticks = [text.get_text() for text in bar.get_xticklabels()]
            assert ticks == [f"−{largest:.2g}", "0", f"{largest:.2g}"]
            assert "nats" in bar.get_xlabel()
    assert [axis.get_title() for axis in places[:, 0]] == ["image", "one", "two"]
    check_looks(figure, tmp_path / "figure.png")


def test_a_network_without_closed_form_agrees_with_finite_differences():
    images, labels = small_images(1, (4, 4, 3))
    network = small_network((4, 4, 3), softmax=True)
    figure = plot_input_gradients({"a": network}, images, labels)
    step = 1e-2
    moves = step * np.eye(images.size, dtype="float32").reshape(-1, *images.shape[1:])

    def loss(points):
        shares = keras.ops.convert_to_numpy(network(points)).astype("float64")
        return -np.log(shares[:, labels[0]])

    expected = (loss(images + moves) - loss(images - moves)) / (2 * step)
    gray = 0.5 + 0.5 * expected.reshape(images.shape[1:]) / (3 * expected.std())
    found = figure.axes[1].images[0].get_array()
    # A kink of a ReLU between two points is felt at few of the 48 pixels.
    assert np.mean(np.abs(found - np.clip(gray, 0, 1)) < 0.01) > 0.9


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_and_8_bit_pixels(policy):
    images, labels = linear_data(1)
    weights = linear_weights() / 255
    figure = plot_input_gradients(
        {"half": linear_network(weights, dtype=policy)},
        (255 * images).astype("uint8"),
        keras.utils.to_categorical(labels, 3),
        value_range=(0, 255),
        class_names=["zero", "one", "two"],
    )
    expected = gradients(weights, np.floor(255 * images), labels)[0]
    gray = np.clip(0.5 + 0.5 * expected / (3 * expected.std()), 0, 1)
    np.testing.assert_allclose(drawn(figure.axes[1]), gray, atol=0.03)
    assert figure.axes[0].get_ylabel() == ["zero", "one", "two"][labels[0]]
    said = figure.axes[1].get_xlabel()
    largest = float(said.removeprefix("±").split()[0])  # for each of 255 units
    assert largest == pytest.approx(3 * expected.std(), rel=0.1)


@pytest.mark.parametrize("scale", ["image", "model"])
def test_a_model_without_gradient_is_gray_and_said_to_be(scale):
    network = linear_network(np.zeros((9, 3), "float32"))
    images, labels = linear_data(1)
    figure = plot_input_gradients({"flat": network}, images, labels, scale=scale)
    assert (drawn(figure.axes[1]) == 0.5).all()
    assert figure.axes[1].get_xlabel() == "no gradient"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {}}, "`models` is an empty dict"),
        ({"models": small_network()}, "`models` must be a dict"),
        ({"models": {"a": 3}}, "`models`.*int for 'a'"),
        ({"images": np.zeros((2, 9))}, r"`images`.*1 or 3.*\(2, 9\)"),
        ({"images": np.zeros((2, 4, 4, 1))}, r"`images`.*\(3, 3, 1\) for 'a'"),
        ({"images": np.full((2, 3, 3, 1), 7.0)}, "`images`.*`value_range`"),
        ({"labels": [0]}, "same number of examples"),
        ({"labels": [0, 9]}, "`labels`.*from 0 to 2"),
        ({"scale": "log"}, "`scale`.*'log'"),
        ({"class_names": ["a"]}, "`class_names`.*3 classes"),
        ({"from_logits": "yes"}, "`from_logits`"),
        ({"value_range": (1, 0)}, "`value_range`"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes, message):
    arguments = {
        "models": {"a": linear_network(linear_weights())},
        "images": np.zeros((2, 3, 3, 1)),
        "labels": [0, 1],
        **changes,
    }
    with pytest.raises((TypeError, ValueError), match=message):
        plot_input_gradients(**arguments)
