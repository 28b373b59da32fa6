import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

from keras_free_adv import AutoAttack, PGDAttack, evaluate_robustness
from keras_free_adv.plotting import plot_robustness_curve
from tests.plotting.models import (
    check_looks,
    linear_data,
    linear_network,
    linear_weights,
)

pytestmark = pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")


def curve(figure, name):
    """Epsilons, accuracies, and the intervals' ends, as they are drawn."""
    (bars,) = [c for c in figure.axes[0].containers if c.get_label() == name]
    line, _, (segments,) = bars
    ends = np.array([[low, high] for (_, low), (_, high) in segments.get_segments()])
    return line.get_xdata(), line.get_ydata(), ends


def test_points_and_intervals_are_those_of_the_evaluation(tmp_path):
    images, labels = linear_data(20)
    models = {
        "a": linear_network(linear_weights()),
        "b": linear_network(linear_weights(1), softmax=True),
    }
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    figure = plot_robustness_curve(models, data, [0.1, 0, 0.1], verbose=0)
    for name, model in models.items():
        x, y, ends = curve(figure, name)
        assert x.tolist() == [0, 0.1]
        attack = PGDAttack(0.1, steps=20, step_size=0.025, seed=0)
        report = evaluate_robustness(model, (images, labels), attack, verbose=0)
        np.testing.assert_array_equal(y, list(report.accuracy.values()))
        np.testing.assert_allclose(ends, list(report.intervals.values()), atol=1e-12)
    axis = figure.axes[0]
    assert axis.get_xlabel() == "ε (linf), pixels in [0, 1]"
    assert axis.get_ylabel() == "accuracy, 20 examples"
    lines = [bars[0] for bars in axis.containers]
    assert len({line.get_linestyle() for line in lines}) == 2
    assert len({line.get_marker() for line in lines}) == 2
    assert figure.get_supxlabel() == ""  # every check is passed
    check_looks(figure, tmp_path / "figure.png")


def test_an_attack_is_scaled_to_each_epsilon():
    weights = linear_weights() / 255
    images, labels = linear_data(10)
    data = 255 * images, labels
    attack = PGDAttack(
        100, steps=3, step_size=50, norm="l2", value_range=(0, 255), seed=7
    )
    network = linear_network(weights)
    figure = plot_robustness_curve({"a": network}, data, [20], attack=attack, verbose=0)
    same = PGDAttack(20, steps=3, step_size=10, norm="l2", value_range=(0, 255), seed=7)
    report = evaluate_robustness(network, data, same, verbose=0)
    _, y, _ = curve(figure, "a")
    np.testing.assert_array_equal(y, list(report.accuracy.values()))
    assert figure.axes[0].get_xlabel() == "ε (l2), pixels in [0, 255]"


def test_the_parts_of_an_ensemble_are_scaled_too():
    images, labels = linear_data(6)
    network = linear_network(linear_weights())
    part = PGDAttack(0.3, steps=2, step_size=0.15, seed=0)
    figure = plot_robustness_curve(
        {"a": network},
        (images, labels),
        [0.05],
        attack=AutoAttack(0.3, attacks=[part], seed=0),
        verbose=0,
    )
    small = PGDAttack(0.05, steps=2, step_size=0.025, seed=0)
    report = evaluate_robustness(network, (images, labels), small, verbose=0)
    assert curve(figure, "a")[1][1] == report.accuracy["pgd2"]


@pytest.mark.filterwarnings("ignore:.*steps of .* lead", "ignore:.*is 100.00% although")
def test_a_curve_that_stays_up_at_large_epsilon_is_marked(tmp_path):
    data = linear_data(30)
    short = PGDAttack(0.1, steps=1, step_size=1e-5, random_start=False, name="short")
    network = linear_network(linear_weights())
    figure = plot_robustness_curve(
        {"a": network}, data, [0.1, 0.5], attack=short, verbose=0
    )
    said = figure.get_supxlabel().replace("\n  ", "")
    assert said.startswith("✗ a: accuracy is 100% at ε = 0.5")
    most_frequent = np.bincount(data[1]).max() / 30
    assert f"{most_frequent:.0%} at most can be left" in said
    (ring,) = [line for line in figure.axes[0].lines if line.get_label() == "_fails"]
    assert ring.get_xydata().tolist() == [[0.5, 1.0]]
    check_looks(figure, tmp_path / "figure.png")
    # The same model under an attack that works passes, and so does a small epsilon.
    for attack, epsilon in ((None, 0.5), (short, 0.1)):
        figure = plot_robustness_curve(
            {"a": network}, data, [epsilon], attack=attack, verbose=0
        )
        assert figure.get_supxlabel() == ""


@pytest.mark.filterwarnings("ignore:.*steps of .* lead", "ignore:.*breaks .* fewer")
def test_a_curve_that_rises_is_marked(monkeypatch):
    """An attack that is weaker at a larger epsilon, as a broken one may be."""
    init = PGDAttack.__init__

    def weak_at_large_epsilon(self, epsilon, **settings):
        init(self, epsilon, **{**settings, "random_start": False})
        if epsilon > 0.25:
            self.step_size = 1e-6

    images, labels = linear_data(40)
    attack = PGDAttack(0.2, steps=5, seed=0)
    monkeypatch.setattr(PGDAttack, "__init__", weak_at_large_epsilon)
    network = linear_network(linear_weights())
    figure = plot_robustness_curve(
        {"a": network}, (images, labels), [0.2, 0.3, 0.4], attack=attack, verbose=0
    )
    _, y, ends = curve(figure, "a")
    assert ends[2, 0] > ends[1, 1]  # beyond the intervals
    said = figure.get_supxlabel().replace("\n  ", "")
    assert said.startswith(f"✗ a: accuracy rises from {y[1]:.0%} at ε = 0.2 to 100% at")
    (ring,) = [line for line in figure.axes[0].lines if line.get_label() == "_fails"]
    assert ring.get_xdata()[0] in (0.3, 0.4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": []}, "`models`"),
        ({"epsilons": []}, "`epsilons` must be a list of at least one number"),
        ({"epsilons": 0.1}, "`epsilons`"),
        ({"epsilons": [0]}, "`epsilons` must hold a number above zero"),
        ({"epsilons": [-0.1]}, "`epsilons`.*0 or more"),
        ({"epsilons": [8]}, "`epsilon` must not exceed"),
        ({"epsilons": [0.1, np.nan]}, "`epsilons`"),
        ({"attack": "pgd"}, "`attack` must be an attack.*str"),
        ({"attack": PGDAttack(0.1, targeted=True)}, "targeted=True"),
        ({"value_range": 3}, "`value_range`"),
        ({"data": (np.zeros((0, 3, 3, 1)), np.zeros(0))}, "`data` holds no example"),
        ({"data": 3}, "`data`"),
        ({"max_examples": 0}, "`max_examples`"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes, message):
    arguments = {
        "models": {"a": linear_network(linear_weights())},
        "data": linear_data(4),
        "epsilons": [0.1],
        "verbose": 0,
        **changes,
    }
    with pytest.raises((TypeError, ValueError), match=message):
        plot_robustness_curve(**arguments)
