import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

from keras_free_adv import PGDAttack
from keras_free_adv.plotting import plot_large_epsilon
from tests.plotting.models import (
    check_looks,
    linear_data,
    linear_network,
    linear_weights,
    softmax,
)


def attack(**settings):
    return PGDAttack(
        settings.pop("epsilon", 0.6), steps=30, targeted=True, seed=0, **settings
    )


def test_results_have_gone_where_the_class_is(tmp_path):
    """One sign step from the image is where PGD ends, on a nearly linear loss."""
    weights = linear_weights(), linear_weights(1)
    models = {"one": linear_network(weights[0]), "two": linear_network(weights[1])}
    images, labels = linear_data(3)
    targets = (labels + 1) % 3
    figure = plot_large_epsilon(
        models, images, targets, attack(), class_names=["cat", "dog", "elephant"]
    )
    axes = np.array(figure.axes).reshape(3, 3)
    names = ["cat", "dog", "elephant"]
    for row, target in enumerate(targets):
        assert axes[row, 0].get_ylabel() == f"→ {names[target]}"
        np.testing.assert_allclose(
            axes[row, 0].images[0].get_array()[..., :1], images[row], atol=1e-6
        )
        for column, w in enumerate(weights, start=1):
            shown = np.asarray(axes[row, column].images[0].get_array())[..., 0]
            assert (np.abs(shown - images[row, ..., 0]) <= 0.6 + 1e-6).all()
            before = softmax(images[row].ravel() @ w)[target]
            shares = softmax(shown.ravel() @ w)
            assert shares[target] > before
            title = axes[row, column].get_title()
            assert names[shares.argmax()] in title
            assert f"{shares.max():.0%}" in title
            assert title.startswith("✗" if shares.argmax() == target else "✓")
    assert axes[2, 1].get_xlabel() == "one"
    assert "0.6" in axes[2, 0].get_xlabel()
    check_looks(figure, tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"models": linear_network(linear_weights())}, "`models`"),
        ({"models": {}}, "`models`"),
        ({"attack": PGDAttack(0.1)}, "targeted=False"),
        ({"attack": 3}, "`attack`.*int"),
        ({"images": np.zeros((2, 3, 3, 2))}, "`images`"),
        ({"images": np.full((3, 3, 3, 1), 7.0)}, "`images`"),
        ({"targets": [0]}, "`targets` must hold the same number"),
        ({"targets": [0, 1, 3]}, "`targets` must hold class numbers from 0 to 2"),
        ({"class_names": ["a"]}, "`class_names`"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changed, message):
    images, labels = linear_data(3)
    arguments = {
        "models": {"one": linear_network(linear_weights())},
        "images": images,
        "targets": labels,
        "attack": attack(),
        "class_names": None,
    } | changed
    with pytest.raises((TypeError, ValueError), match=message):
        plot_large_epsilon(**arguments)
