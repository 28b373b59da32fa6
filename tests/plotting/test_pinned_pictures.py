"""Pictures that must not change by accident, beside those that were looked at.

After a change that is meant, and looked at:

    KERAS_FREE_ADV_DRAW=1 python -m pytest -n 0 tests/plotting/test_pinned_pictures.py
"""

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

import matplotlib
from matplotlib.testing.compare import compare_images

from keras_free_adv import FreeAdversarialModel, PGDAttack, plotting
from tests.conftest import from_logits
from tests.plotting.models import linear_data, linear_network, linear_weights

BASELINES = Path(__file__).parent / "baselines"
# With another version texts are set a little otherwise.
VERSION = "3.11"
# Root mean square of the difference, of 255: a line of text missing is about 3.
TOLERANCE = 1.0


def models():
    return {
        "natural": linear_network(4 * linear_weights()),
        "robust": linear_network(linear_weights(1)),
    }


def free_model():
    model = FreeAdversarialModel(models()["robust"], 0.2, replays=2, step_size=0.08)
    model.compile("sgd", from_logits())
    model.fit(*linear_data(16), batch_size=8, epochs=2, verbose=0, shuffle=False)
    return model


def attack(**settings):
    return PGDAttack(0.2, steps=3, random_start=False, seed=0, **settings)


def shown(count=3):
    images, labels = linear_data(12)
    return images[:count], labels[:count]


CURVE = np.array([0.1, 0.3, 0.42, 0.5])
HISTORY = {
    "loss": [1.2, 0.9, 0.7, 0.6],
    "accuracy": CURVE,
    "val_accuracy": CURVE - 0.05,
    "val_pgd20_accuracy": CURVE / 2,
}
RAMP = np.linspace(-1, 1, 2 * 3 * 3).reshape(1, 2, 3, 3, 1)

PICTURES = {
    "adversarial_examples": lambda: plotting.plot_adversarial_examples(
        models(), *shown(), attack(), class_names=["cat", "dog", "frog"]
    ),
    "input_gradients": lambda: plotting.plot_input_gradients(models(), *shown()),
    "large_epsilon": lambda: plotting.plot_large_epsilon(
        models(), shown()[0], (shown()[1] + 1) % 3, attack(targeted=True)
    ),
    "loss_surface": lambda: plotting.plot_loss_surface(
        models(), shown()[0][0], shown()[1][0], 0.2, points=7, seed=0
    ),
    "robustness_curve": lambda: plotting.plot_robustness_curve(
        models(), linear_data(12), [0.1, 0.2, 0.5], attack=attack(), verbose=0
    ),
    "attack_strength": lambda: plotting.plot_attack_strength(
        models(), linear_data(12), 0.03, steps=(1, 3), restarts=(1, 2), verbose=0
    ),
    "training_history": lambda: plotting.plot_training_history(HISTORY),
    "delta": lambda: plotting.plot_delta(free_model()),
    "delta_history": lambda: plotting.plot_delta_history(
        {i: np.clip(0.05 * i * RAMP, -0.2, 0.2) for i in range(9)}, 0.2
    ),
    "accuracy_against_time": lambda: plotting.plot_accuracy_against_time(
        {"Free": (60 * CURVE, CURVE), "7-PGD": (300 * CURVE, 1.1 * CURVE)},
        ylabel="PGD-20 accuracy",
    ),
    "published_cost": lambda: plotting.plot_published_cost("imagenet", "pgd100"),
}


@pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_as_it_was(name, tmp_path):
    if not matplotlib.__version__.startswith(VERSION):
        pytest.skip(f"drawn with matplotlib {VERSION}, not {matplotlib.__version__}")
    baseline, path = BASELINES / f"{name}.png", tmp_path / f"{name}.png"
    PICTURES[name]().savefig(path, dpi=50)
    if os.environ.get("KERAS_FREE_ADV_DRAW"):
        BASELINES.mkdir(exist_ok=True)
        baseline.write_bytes(path.read_bytes())
        pytest.skip(f"drawn anew: look at {baseline}")
    assert compare_images(str(baseline), str(path), TOLERANCE) is None


def test_every_picture_is_pinned():
    assert {f"plot_{name}" for name in PICTURES} == set(plotting.__all__)
