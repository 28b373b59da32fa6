import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

from keras_free_adv.plotting import plot_delta_history
from tests.plotting.models import check_looks


def deltas(count, epsilon=0.1, shape=(2, 3, 4, 4, 3)):
    """Growing from update to update, and cut at epsilon."""
    direction = np.random.default_rng(0).normal(0, 1, shape)
    return {
        10 * i: np.clip(0.03 * i * direction, -epsilon, epsilon) for i in range(count)
    }


def test_images_and_curves_are_those_of_the_deltas(tmp_path):
    given = deltas(20)
    figure = plot_delta_history(given, 0.1, images=2)
    *pictures, curves = figure.axes
    assert len(pictures) == 2 * 8
    titles = [axis.get_title() for axis in pictures[:8]]
    assert titles[0] == "update 0"
    assert titles[-1] == "190"
    for axis, title in zip(pictures[8:], titles, strict=True):
        when = int(title.removeprefix("update "))
        expected = 0.5 + 0.5 * given[when][0, 1] / 0.1
        np.testing.assert_allclose(axis.images[0].get_array(), expected, atol=1e-6)
    edge, size = (line.get_ydata() for line in curves.lines)
    np.testing.assert_allclose(curves.lines[0].get_xdata(), sorted(given))
    np.testing.assert_allclose(
        edge, [(np.abs(d) >= 0.1).mean() for d in given.values()]
    )
    np.testing.assert_allclose(size, [np.abs(d).mean() / 0.1 for d in given.values()])
    assert "ε = 0.1 (linf, pixels in [0, 1])" in curves.get_xlabel()
    check_looks(figure, tmp_path / "figure.png")


def test_l2_on_another_pixel_scale(tmp_path):
    given = {1: np.full((1, 2, 5, 5, 1), 4.0), 2: np.full((1, 2, 5, 5, 1), -8.0)}
    figure = plot_delta_history(
        given, 40.0, norm="l2", value_range=(0, 255), moment="epoch"
    )
    curves = figure.axes[-1]
    np.testing.assert_allclose(curves.lines[1].get_ydata(), [0.5, 1.0])
    np.testing.assert_allclose(curves.lines[0].get_ydata(), [0.0, 1.0])
    # The largest value of all is white, or black: 8 of 40.
    assert "white: +0.2 ε" in figure.axes[0].get_ylabel()
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), 0.75)
    assert curves.get_legend().get_texts()[0].get_text().startswith("lengths at the")
    check_looks(figure, tmp_path / "figure.png")


def test_what_is_no_image_has_curves_only():
    assert len(plot_delta_history(deltas(3, shape=(1, 4, 6)), 0.1).axes) == 1


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ([1, 2], {}, "`deltas`"),
        ({}, {}, "two deltas or more"),
        ({1: np.zeros((1, 2, 3))}, {}, "two deltas or more"),
        ({1: np.zeros((1, 2, 3)), 2: np.zeros((1, 2, 4))}, {}, "of one shape"),
        ({0: None, 1: np.zeros((1, 2, 3))}, {}, "None for 0"),
        ({"a": np.zeros((1, 2, 3))}, {}, "`deltas`"),
        (deltas(2), {"epsilon": -1}, "`epsilon`"),
        (deltas(2), {"images": 0}, "`images`"),
        (deltas(2), {"norm": "l1"}, "`norm`"),
        (deltas(2), {"moment": 3}, "`moment`"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        plot_delta_history(given, **{"epsilon": 0.1, **settings})
