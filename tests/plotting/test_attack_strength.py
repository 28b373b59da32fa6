import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

from keras_free_adv import PGDAttack, evaluate_robustness
from keras_free_adv.plotting import plot_attack_strength
from tests.plotting.models import (
    check_looks,
    linear_data,
    linear_network,
    linear_weights,
)

pytestmark = pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")


def test_points_are_those_of_the_evaluation(tmp_path):
    data = linear_data(20)
    network = linear_network(linear_weights())
    figure = plot_attack_strength(
        {"a": network}, data, 0.1, steps=[20, 1], restarts=(1, 2), verbose=0
    )
    attacks = [PGDAttack(0.1, steps=steps, seed=0) for steps in (1, 20)]
    attacks += [PGDAttack(0.1, steps=20, restarts=2, seed=0)]
    report = evaluate_robustness(network, data, attacks, verbose=0)
    by_steps, by_restarts = figure.axes
    expected = (
        (by_steps, [1, 20], ["pgd1", "pgd20"]),
        (by_restarts, [1, 2], ["pgd20", "pgd20x2"]),
    )
    for axis, numbers, names in expected:
        line, _, (bars,) = axis.containers[0]
        assert line.get_xdata().tolist() == numbers
        assert line.get_ydata().tolist() == [report.accuracy[n] for n in names]
        ends = [[low, high] for (_, low), (_, high) in bars.get_segments()]
        np.testing.assert_allclose(ends, [report.intervals[n] for n in names])
        assert [text.get_text() for text in axis.get_xticklabels()] == [
            str(number) for number in numbers
        ]
    assert by_steps.get_xlabel() == "steps"
    assert by_restarts.get_xlabel() == "restarts of 20 steps"
    assert by_steps.get_title() == "PGD, ε = 0.1 (linf), pixels in [0, 1]"
    assert figure.get_supxlabel() == ""
    check_looks(figure, tmp_path / "figure.png")


@pytest.mark.filterwarnings("ignore:.*steps of .* lead", "ignore:.*breaks .*")
def test_more_steps_that_find_less_are_marked(monkeypatch):
    init = PGDAttack.__init__

    def weak_with_many_steps(self, epsilon, **settings):
        init(self, epsilon, **{**settings, "random_start": False})
        if self.steps == 3:
            self.step_size = 1e-6

    monkeypatch.setattr(PGDAttack, "__init__", weak_with_many_steps)
    figure = plot_attack_strength(
        {"a": linear_network(linear_weights())},
        linear_data(40),
        0.3,
        steps=[2, 3],
        restarts=[1],
        verbose=0,
    )
    said = figure.get_supxlabel().replace("\n  ", "")
    assert said.startswith("✗ a: accuracy rises from")
    assert "at steps = 2 to 100% at steps = 3" in said
    rings = [
        line.get_xdata()[0]
        for line in figure.axes[0].lines
        if line.get_label() == "_fails"
    ]
    assert rings == [3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {}}, "`models` is an empty dict"),
        ({"epsilon": 0}, "`epsilon`"),
        ({"steps": []}, "`steps` must be a list of at least one whole"),
        ({"steps": 5}, "`steps` must be a list of at least one whole"),
        ({"restarts": [0]}, "`restarts`"),
        ({"restarts": [1.5]}, "`restarts`"),
        ({"norm": "l1"}, "`norm`"),
        ({"verbose": 7}, "`verbose`"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes, message):
    arguments = {
        "models": {"a": linear_network(linear_weights())},
        "data": linear_data(4),
        "epsilon": 0.1,
        "steps": [1],
        "restarts": [1],
        "verbose": 0,
        **changes,
    }
    with pytest.raises((TypeError, ValueError), match=message):
        plot_attack_strength(**arguments)
