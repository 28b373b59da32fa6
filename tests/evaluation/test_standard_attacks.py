"""What is attacked with when nothing is said."""

import pytest

from keras_free_adv import (
    AutoAttack,
    FreeAdversarialModel,
    PGDAttack,
    evaluate_robustness,
)
from keras_free_adv.evaluation.standard_attacks import standard_attacks
from tests.conftest import from_logits, small_images, small_network


def test_they_are_pgd_20_and_autoattack_and_repeatable():
    pgd, autoattack = standard_attacks(8 / 255, norm="l2", value_range=(-1, 1))
    assert isinstance(pgd, PGDAttack)
    assert isinstance(autoattack, AutoAttack)
    assert pgd.steps == 20
    for attack in (pgd, autoattack):
        assert attack.epsilon == pytest.approx(8 / 255)
        assert attack.norm == "l2"
        assert attack.value_range == (-1, 1)
        assert attack.seed == 0
    assert standard_attacks(0.1, seed=7)[0].seed == 7


@pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")
@pytest.mark.filterwarnings("ignore:apgd_t. loss=")
def test_an_adversarial_model_is_attacked_in_the_ball_of_its_training():
    images, labels = small_images(4)
    model = FreeAdversarialModel(
        small_network(), 1.5, norm="l2", value_range=(0, 255), replays=2
    )
    model.compile("sgd", from_logits())
    report = evaluate_robustness(model, (255 * images, labels), verbose=0)
    assert list(report.accuracy) == ["natural", "pgd20", "autoattack"]
    for settings in report.threat_models.values():
        assert settings["epsilon"] == 1.5
        assert settings["norm"] == "l2"


def test_a_plain_model_has_to_be_told_its_epsilon():
    images, labels = small_images(4)
    with pytest.raises(ValueError, match="attacks"):
        evaluate_robustness(small_network(), (images, labels), verbose=0)
