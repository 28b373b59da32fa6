import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_free_adv import (
    APGDAttack,
    AutoAttack,
    FABAttack,
    PGDAttack,
    SquareAttack,
    evaluate_robustness,
    losses,
)
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.outcome import Outcome
from keras_free_adv.predictions import Predictions
from tests.attacks.test_apgd_attack import bent_network
from tests.attacks.test_pgd_attack import linear_model
from tests.conftest import outputs_of, small_images

SQUARE = {"queries": 5000, "restarts": 1, "rescale_schedule": False}
PARTS = {
    "standard": [
        ("apgd_ce", APGDAttack, {"loss": "cross_entropy", "restarts": 1}),
        ("apgd_t", APGDAttack, {"loss": "targeted_dlr", "targets": 9, "restarts": 1}),
        ("fab_t", FABAttack, {"targets": 9, "restarts": 1, "steps": 100}),
        ("square", SquareAttack, SQUARE),
    ],
    "plus": [
        ("apgd_ce_x5", APGDAttack, {"loss": "cross_entropy", "restarts": 5}),
        ("apgd_dlr_x5", APGDAttack, {"loss": "dlr", "restarts": 5}),
        ("fab_x5", FABAttack, {"targets": None, "restarts": 5, "steps": 100}),
        ("square", SquareAttack, SQUARE),
        ("apgd_t", APGDAttack, {"loss": "targeted_dlr", "targets": 9, "restarts": 1}),
        ("fab_t", FABAttack, {"targets": 9, "restarts": 1, "steps": 100}),
    ],
    "rand": [
        ("apgd_ce", APGDAttack, {"loss": "cross_entropy", "gradient_samples": 20}),
        ("apgd_dlr", APGDAttack, {"loss": "dlr", "gradient_samples": 20}),
    ],
}


@pytest.mark.parametrize("version", PARTS)
def test_the_parts_of_a_version(version):
    """Those of Croce and Hein (2020), section 5, and of RobustBench."""
    whole = AutoAttack(
        3.0,
        norm="l2",
        version=version,
        value_range=(0, 255),
        from_logits=True,
        seed=11,
    )
    parts = whole.parts()
    assert [(p.name, type(p)) for p in parts] == [row[:2] for row in PARTS[version]]
    for part, (_, kind, expected) in zip(parts, PARTS[version], strict=True):
        config = part.get_config()
        assert {key: config[key] for key in expected} == expected
        if kind is APGDAttack:
            assert part.steps == 100
            samples = 20 if version == "rand" else 1
            assert part.gradient_samples == samples
        assert (part.epsilon, part.norm, part.value_range) == (3.0, "l2", (0, 255))
        assert part.from_logits is True
        assert part.seed == 11
    assert whole.name == (
        "autoattack" if version == "standard" else f"autoattack_{version}"
    )
    assert AutoAttack(0.1, version=version, name="mine").name == "mine"


class FoolsSome(Attack):
    """Fools the examples of these numbers, by the pixel value it is given."""

    def __init__(self, epsilon, fooled, pixel, **kwargs):
        super().__init__(
            epsilon,
            restarts=1,
            norm="linf",
            targeted=False,
            value_range=(0.0, 1.0),
            from_logits="auto",
            seed=0,
            stem="fools_some",
            **{"name": None, **kwargs},
        )
        self.fooled_ids, self.pixel, self.seen = list(fooled), pixel, []

    def loss_of(self, target, outputs, logits):
        del outputs
        return losses.margin(target.labels, logits)

    def attacked(self, model, view, images, labels, ids):
        ids = np.asarray(ids)
        self.seen.append(ids.tolist())
        assert len(images) == len(labels) == len(ids)
        fooled = ops.convert_to_tensor(np.isin(ids, self.fooled_ids))
        return Outcome(
            ops.where(fooled[:, None], self.pixel, images),
            fooled,
            ops.zeros((len(ids),)),
        )


def test_each_part_sees_what_the_former_left_standing():
    network = linear_model(np.eye(3))
    images = np.float32(np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]] * 0.8)
    labels = np.array([0, 1, 2, 0, 1, 1, 0, 1])  # number 5 is wrong as it is
    first = FoolsSome(1.0, [1, 6], 0.125, name="first")
    second = FoolsSome(1.0, [], 0.25, name="second")
    third = FoolsSome(1.0, [0, 1, 7], 0.375, name="third")
    attack = AutoAttack(1.0, attacks=[first, second, third], name="mine")
    found = np.asarray(attack(images, labels, model=network))
    assert first.seen == [[0, 1, 2, 3, 4, 6, 7]]
    assert second.seen == third.seen == [[0, 2, 3, 4, 7]]
    expected = images.copy()
    expected[[1, 6]], expected[[0, 7]] = 0.125, 0.375
    np.testing.assert_array_equal(found, expected)


def test_parts_may_be_left_with_nothing():
    network = linear_model(np.eye(3))
    images = np.float32(np.eye(3) * 0.8)
    all_of_them = FoolsSome(1.0, [0, 1, 2], 0.125, name="first")
    rest = [SquareAttack(1.0, queries=3, seed=0), FABAttack(1.0, steps=2, seed=0)]
    rest += [APGDAttack(1.0, steps=2, seed=0), PGDAttack(1.0, steps=2, seed=0)]
    images = images[:, :, None, None]
    network = keras.Sequential(
        [keras.Input((3, 1, 1)), layers.Flatten(), *network.layers]
    )
    all_of_them.attacked = lambda model, view, images, labels, ids: Outcome(
        0.0 * images, ops.ones((3,), "bool"), ops.zeros((3,))
    )
    attack = AutoAttack(1.0, attacks=[all_of_them, *rest])
    found = attack(images, np.arange(3), model=network)
    np.testing.assert_array_equal(found, 0 * images)


def short():
    epsilon, shared = 0.15, {"norm": "l2", "seed": 0}
    parts = [
        PGDAttack(epsilon, steps=1, step_size=epsilon / 2, **shared),
        FABAttack(epsilon, steps=1, targets=1, **shared),
        SquareAttack(epsilon, queries=20, **shared),
    ]
    return AutoAttack(epsilon, attacks=parts, **shared)


def test_it_breaks_what_any_part_breaks_alone():
    """Numbers of examples stay, so that each part draws what it draws alone."""
    network = keras.Sequential(
        [
            keras.Input((3, 4, 1)),
            layers.Flatten(),
            *bent_network(5, 12, bend=1.0).layers,
        ]
    )
    images, labels = small_images(60, (3, 4, 1), 5)
    labels[5:] = outputs_of(network, images).argmax(1)[5:]
    whole = short()

    def right(adversarial):
        return outputs_of(network, adversarial).argmax(1) == labels

    alone = [right(part(images, labels, model=network)) for part in whole.parts()]
    together = right(whole(images, labels, model=network))
    np.testing.assert_array_equal(together, np.logical_and.reduce(alone))
    # No part alone does as much.
    assert 0 < together.sum() < min(r.sum() for r in alone)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few examples
        report = evaluate_robustness(network, (images, labels), whole, verbose=0)
    np.testing.assert_array_equal(report.robust["autoattack"], together)
    left = np.logical_and.accumulate([right(images), *alone]).mean(1)[1:]
    stages = report.stages["autoattack"]
    assert list(stages) == [part.name for part in whole.parts()]
    np.testing.assert_allclose(list(stages.values()), left)


def test_a_version_survives_serialization():
    for attack in (
        AutoAttack(8 / 255, seed=3),
        AutoAttack(
            0.5, norm="l2", version="rand", value_range=(-1, 1), from_logits=False
        ),
    ):
        saved = keras.saving.serialize_keras_object(attack)
        copy = keras.saving.deserialize_keras_object(saved)
        assert copy.get_config() == attack.get_config()
        for one, other in zip(attack.parts(), copy.parts(), strict=True):
            assert {**one.get_config(), "seed": 0} == {**other.get_config(), "seed": 0}
            if attack.seed is not None:
                assert one.seed == other.seed == attack.seed


def test_a_list_of_parts_survives_serialization():
    attack = short()
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(attack)
    )
    assert [type(part) for part in copy.parts()] == [type(p) for p in attack.parts()]
    assert [p.get_config() for p in copy.parts()] == [
        p.get_config() for p in attack.parts()
    ]


def test_it_says_what_its_parts_say():
    whole = AutoAttack(0.1, version="plus")
    assert len(whole.caveats(Predictions("logits", 2))) == 2
    assert len(whole.caveats(Predictions("logits", 3))) == 1
    assert whole.caveats(Predictions("logits", 10)) == []
    assert "apgd_dlr_x5" in whole.caveats(Predictions("logits", 2))[0]
    assert "apgd_t" in whole.caveats(Predictions("logits", 2))[1]


def test_images_without_squares_are_refused_before_any_work():
    images = np.float32(np.eye(3) * 0.8)
    first = FoolsSome(1.0, [], 0.125, name="first")
    attack = AutoAttack(1.0, attacks=[first, SquareAttack(1.0, queries=2)])
    with pytest.raises(ValueError, match="height, width"):
        attack(images, np.arange(3), model=linear_model(np.eye(3)))
    assert first.seen == []


def test_the_seed_decides_for_parts_without_one():
    seeds = {
        AutoAttack(0.1, attacks=[APGDAttack(0.1)], seed=3).parts()[0].seed_in_use
        for _ in range(3)
    }
    assert len(seeds) == 1


def test_a_report_repeats_parts_that_had_no_seed():
    """The report knows the whole's seed, and the parts follow from it."""
    alone = APGDAttack(0.1, steps=1)
    whole = AutoAttack(0.1, attacks=[alone])
    config = {**whole.get_config(), "seed": whole.seed_in_use}
    again = AutoAttack.from_config(config)
    assert again.parts()[0].seed_in_use == whole.parts()[0].seed_in_use
    assert alone.seed is None  # the user's own is left as it was
    assert whole.parts()[0].seed_in_use == whole.seed_in_use
