import keras
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

from keras_free_adv import PGDAttack
from keras_free_adv.plotting import plot_loss_surface
from tests.plotting.models import (
    check_looks,
    cross_entropy,
    gradients,
    linear_data,
    linear_network,
    linear_weights,
)


def surfaces(figure):
    """The values of each picture of contours, `[random, adversarial]`."""
    return [np.asarray(mesh.get_array()).reshape(5, 5) for mesh in meshes(figure)]


def meshes(figure):
    flat = [axis for axis in figure.axes if axis.name != "3d"]
    return [axis.collections[0] for axis in flat[:-1]]  # the last is the colour bar


@pytest.mark.parametrize("softmax", [False, True])
def test_the_loss_is_that_of_the_points_of_the_plane(tmp_path, softmax):
    images, labels = linear_data(1)
    images = 0.3 + 0.4 * images  # nothing is clipped
    network = linear_network(linear_weights(), softmax)
    figure = plot_loss_surface({"a": network}, images[0], labels[0], 0.1, points=5)
    (surface,) = surfaces(figure)
    toward = 0.1 * np.sign(gradients(linear_weights(), images, labels))
    for column, a in enumerate(np.linspace(-1, 1, 5)):
        expected = cross_entropy(linear_weights(), images + a * toward, labels)
        np.testing.assert_allclose(surface[2, column], expected[0], rtol=1e-4)
    # Along the other axis the direction is random, of length epsilon in each pixel.
    ends = surface[[0, 4], 2]
    centre = surface[2, 2]
    largest = 0.1 * np.abs(linear_weights() @ [[1], [1], [1]]).sum() * 3
    assert (np.abs(ends - centre) > 0).all()
    assert (np.abs(ends - centre) < largest).all()
    assert (surface[2, 4] >= ends).all()  # the adversarial one climbs most
    labels_of = [(axis.get_xlabel(), axis.get_ylabel()) for axis in figure.axes]
    assert labels_of[1] == ("adversarial (sign of gradient), ε", "random (signs), ε")
    assert figure.axes[0].get_zlabel() == "loss, nats"
    assert "ε = 0.1, pixels in [0, 1]" in figure.texts[0].get_text()
    check_looks(figure, tmp_path / "figure.png")


def test_models_share_the_scale_and_the_random_direction():
    images, labels = linear_data(1)
    models = {
        "weak": linear_network(linear_weights()),
        "strong": linear_network(linear_weights() / 100),
    }
    figure = plot_loss_surface(models, images[0], labels[0], 0.1, points=5)
    ranges = {axis.get_zlim() for axis in figure.axes if axis.name == "3d"}
    colors = {mesh.get_clim() for mesh in meshes(figure)}
    assert len(ranges) == 1
    assert colors == ranges
    again = plot_loss_surface(models, images[0], labels[0], 0.1, points=5)
    other = plot_loss_surface(models, images[0], labels[0], 0.1, points=5, seed=1)
    np.testing.assert_array_equal(surfaces(figure), surfaces(again))
    assert not np.allclose(surfaces(figure)[0][0], surfaces(other)[0][0])


def test_points_are_clipped_to_the_pixel_range():
    weights = linear_weights() / 255
    image = np.full((3, 3, 1), 255, "uint8")
    figure = plot_loss_surface(
        {"a": linear_network(weights)}, image, 0, 51, points=5, value_range=(0, 255)
    )
    toward = np.sign(gradients(weights, image[None], [0]))
    end = np.clip(image[None] + 51 * toward, 0, 255)
    expected = cross_entropy(weights, end, [0])
    (surface,) = surfaces(figure)
    np.testing.assert_allclose(surface[2, 4], expected[0], rtol=1e-4)
    assert "ε = 51, pixels in [0, 255]" in figure.texts[0].get_text()


def test_towards_what_pgd_finds(tmp_path):
    images, labels = linear_data(1)
    network = linear_network(linear_weights())
    row = keras.utils.to_categorical(labels, 3)
    figure = plot_loss_surface(
        {"a": network}, images[0], row[0], 0.1, points=5, direction="pgd"
    )
    found = PGDAttack(0.1, seed=0)(images, labels, model=network)
    found = keras.ops.convert_to_numpy(found)
    (surface,) = surfaces(figure)
    expected = cross_entropy(linear_weights(), found, labels)
    np.testing.assert_allclose(surface[2, 4], expected[0], rtol=1e-4)
    assert "PGD-20" in figure.axes[1].get_xlabel()
    check_looks(figure, tmp_path / "figure.png")


def test_half_precision_and_no_gradient(tmp_path):
    images, labels = linear_data(1)
    models = {
        "half": linear_network(linear_weights(), dtype="mixed_float16"),
        "flat": linear_network(np.zeros((9, 3), "float32")),
    }
    figure = plot_loss_surface(models, images[0], labels[0], 0.1, points=5)
    half, flat = surfaces(figure)
    expected = cross_entropy(linear_weights(), images, labels)
    np.testing.assert_allclose(half[2, 2], expected[0], rtol=0.02)
    np.testing.assert_allclose(flat, np.log(3), rtol=1e-6)
    assert figure.axes[2].get_title() == "flat (no gradient)"
    check_looks(figure, tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {}}, "`models` is an empty dict"),
        ({"image": np.zeros((1, 3, 3, 1))}, r"`image`.*\(3, 3, 1\) for 'a'"),
        ({"image": np.full((3, 3, 1), 5.0)}, "`image`.*`value_range`"),
        ({"image": "a"}, "`image`"),
        ({"label": 7}, "`labels`.*from 0 to 2"),
        ({"label": [[0]]}, "`label` must be one class number"),
        ({"epsilon": 8}, "`epsilon`"),
        ({"direction": "up"}, "`direction`.*'up'"),
        ({"points": 4}, "`points` must be an odd number"),
        ({"points": 1}, "`points` must be an odd number"),
        ({"extent": 0}, "`extent`"),
        ({"seed": 0.5}, "`seed`"),
        (
            {"models": {"a": linear_network(np.full((9, 3), np.nan, "float32"))}},
            "finite loss.*'a'.* 25 of 25",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes, message):
    arguments = {
        "models": {"a": linear_network(linear_weights())},
        "image": np.zeros((3, 3, 1)),
        "label": 0,
        "epsilon": 0.1,
        "points": 5,
        **changes,
    }
    with pytest.raises((TypeError, ValueError), match=message):
        plot_loss_surface(**arguments)
