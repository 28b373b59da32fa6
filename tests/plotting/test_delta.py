import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

from keras_free_adv import FreeAdversarialModel
from keras_free_adv.plotting import plot_delta
from tests.conftest import from_logits, small_images, small_network
from tests.plotting.models import check_looks


def trained(shape=(6, 6, 1), **settings):
    images, labels = small_images(12, shape)
    low, high = settings.get("value_range", (0, 1))
    model = FreeAdversarialModel(small_network(shape), replays=2, **settings)
    model.compile("sgd", from_logits())
    images = low + (high - low) * images
    model.fit(images, labels, batch_size=10, epochs=2, verbose=0)
    return model


def heights(axis):
    return np.array([bar.get_height() for bar in axis.patches])


@pytest.mark.parametrize("channels", [1, 3])
def test_delta_is_drawn_in_units_of_epsilon(tmp_path, channels):
    model = trained((6, 6, channels), epsilon=0.25, step_size=0.1)
    figure = plot_delta(model, images=9)
    *pictures, histogram = figure.axes
    assert len(pictures) == 9
    share = model.delta[0] / 0.25
    assert np.unique(share).size > 2
    for picture, one in zip(pictures, share, strict=False):
        found = picture.images[0].get_array()[..., :channels]
        np.testing.assert_allclose(found, 0.5 + 0.5 * one, atol=1e-6)
    assert "white: +ε" in pictures[0].get_ylabel()
    expected, _ = np.histogram(share, 41, (-1, 1))
    np.testing.assert_allclose(heights(histogram), expected / share.size)
    edge = (np.abs(share) > 1 - 1e-5).mean()
    assert histogram.get_title().startswith(f"{edge:.0%} of the {share.size:,} values")
    assert "ε = 0.25 (linf, pixels in [0, 1])" in histogram.get_xlabel()
    check_looks(figure, tmp_path / "figure.png")


def test_in_l2_the_lengths_are_counted(tmp_path):
    model = trained(epsilon=60.0, norm="l2", value_range=(0, 255), step_size=20.0)
    figure = plot_delta(model)
    *pictures, histogram = figure.axes
    assert len(pictures) == 10  # as there are
    delta = model.delta[0]
    lengths = np.sqrt((delta.reshape(10, -1) ** 2).sum(-1)) / 60
    expected, _ = np.histogram(np.minimum(lengths, 1), 41, (0, 1))
    np.testing.assert_allclose(heights(histogram), expected / 10)
    largest = np.abs(delta).max()
    found = pictures[3].images[0].get_array()[..., :1]
    np.testing.assert_allclose(found, 0.5 + 0.5 * delta[3] / largest, atol=1e-6)
    assert f"white: +{largest / 60:.2g} ε" in pictures[0].get_ylabel()
    assert "length of delta" in histogram.get_xlabel()
    assert "pixels in [0, 255]" in histogram.get_xlabel()
    check_looks(figure, tmp_path / "figure.png")


def test_what_is_no_image_has_a_histogram_only():
    assert len(plot_delta(trained((6, 6, 2), epsilon=0.1)).axes) == 1


@pytest.mark.parametrize(
    ("model", "images", "message"),
    [
        (small_network(), 8, "`model` must be a FreeAdversarialModel"),
        (FreeAdversarialModel(small_network(), 0.1), 8, "must have been trained"),
        (FreeAdversarialModel(small_network(), 0.1), 0, "`images`"),
    ],
)
def test_what_cannot_be_drawn_is_refused(model, images, message):
    with pytest.raises((TypeError, ValueError), match=message):
        plot_delta(model, images=images)
