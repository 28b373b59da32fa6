import json
import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_free_adv import (
    APGDAttack,
    FABAttack,
    FreeAdversarialModel,
    PGDAttack,
    SquareAttack,
    backends,
    evaluate_robustness,
    geometry,
    paper_attacks,
    random_numbers,
)
from keras_free_adv.distribution import replicas
from keras_free_adv.evaluation.evaluation import cost_to_withstand
from keras_free_adv.evaluation.time_left import BACKWARD
from keras_free_adv.predictions import Predictions
from keras_free_adv.teaching import loss_and_gradient_of
from tests.conftest import outputs_of, small_images, small_network
from tests.training.test_cost import Batches

pytestmark = pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")


@pytest.fixture(scope="module")
def trained():
    """A natural network that an attack breaks in part, and its data."""
    keras.utils.set_random_seed(0)
    images, labels = small_images(150)
    images[:, :3, :3, 0] = labels[:, None, None] / 2 * 0.4 + 0.3 * images[:, :3, :3, 0]
    network = small_network()
    network.compile(
        keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(True)
    )
    network.fit(images, labels, epochs=30, verbose=0)
    return network, images, labels


def attack(**settings):
    return PGDAttack(0.08, steps=4, seed=5, **settings)


def test_robust_means_that_neither_nothing_nor_any_restart_fools_the_model(trained):
    """Against restarts run one by one, on everything, in the test."""
    network, images, labels = trained
    report = evaluate_robustness(
        network, (images, labels), [attack(restarts=4, name="many")], verbose=0
    )
    natural = outputs_of(network, images).argmax(1) == labels
    np.testing.assert_array_equal(report.robust["natural"], natural)
    assert report.accuracy["natural"] == natural.mean()

    whole = attack(restarts=4)
    adversarial = ops.convert_to_numpy(whole(images, labels, model=network))
    robust = natural & (outputs_of(network, adversarial).argmax(1) == labels)
    np.testing.assert_array_equal(report.robust["many"], robust)
    assert 0.05 < report.accuracy["many"] < report.accuracy["natural"]


def test_results_do_not_depend_on_batching(trained):
    network, images, labels = trained
    datasets = [
        ((images, labels), {}),
        ((images, labels), {"batch_size": 7}),
        (tf.data.Dataset.from_tensor_slices((images, labels)).batch(32), {}),
        (
            tf.data.Dataset.from_tensor_slices((images, labels)).batch(32),
            {"batch_size": 50},
        ),
        (Batches(images, labels, 40), {}),
    ]
    first, *others = [
        evaluate_robustness(network, data, attack(restarts=3), verbose=0, **settings)
        for data, settings in datasets
    ]
    for other in others:
        for name in first.robust:
            np.testing.assert_array_equal(first.robust[name], other.robust[name])


def gradient_of(network, images, labels):
    if backends.NAME != "tensorflow":
        return loss_and_gradient_of(network)(images, labels)[1]
    with tf.GradientTape() as tape:
        tape.watch(point := tf.constant(images))
        loss = keras.losses.sparse_categorical_crossentropy(
            labels, network(point), from_logits=True
        )
    return tape.gradient(loss, point).numpy()


def evaluations_needed(network, images, labels, restarts):
    """Forward passes of PGD with 4 steps, one example at a time, as published."""
    standing = outputs_of(network, images).argmax(1) == labels
    needed = 0
    for number in range(restarts):
        keys = random_numbers.keys_of_examples(5, np.arange(len(images)), number)
        at = ops.convert_to_tensor(images)
        noise = geometry.get_norm("linf").noise(keys, at, 0.08)
        point = np.clip(images + ops.convert_to_numpy(noise), 0, 1)
        for _ in range(5):
            needed += standing.sum()
            standing &= outputs_of(network, point).argmax(1) == labels
            moved = point + 0.05 * np.sign(gradient_of(network, point, labels))
            delta = np.clip(moved - images, -0.08, 0.08)
            point = np.clip(images + delta, 0, 1).astype("float32")
    return needed


def test_a_fooled_example_is_never_attacked_again(trained, monkeypatch):
    """Passes are those of the examples still standing, but for rows that wait."""
    network, images, labels = trained
    sizes = []
    run = replicas.Replicas.run

    def counted(self, function, rows, enough):
        sizes.append(len(rows[0]))
        return run(self, function, rows, enough)

    monkeypatch.setattr(replicas.Replicas, "run", counted)
    report = evaluate_robustness(
        network, (images, labels), attack(restarts=3), batch_size=16, verbose=0
    )
    needed = evaluations_needed(network, images, labels, restarts=3)
    assert needed <= report.passes["pgd4x3"]["forward"] <= 1.3 * needed
    assert report.passes["pgd4x3"]["backward"] == report.passes["pgd4x3"]["forward"]
    assert report.passes["natural"] == {"forward": 150, "backward": 0}
    # Batches are full as long as examples wait; then they only shrink.
    assert max(sizes) == 16
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("own", "given", "expected"), [(16, None, 16), (16, 40, 40), (None, None, 128)]
)
def test_batches_are_of_the_datasets_own_size_or_the_one_given(
    trained, monkeypatch, own, given, expected
):
    """Survivors too are packed into batches of that size; of arrays, of 128."""
    network, images, labels = trained
    data = np.tile(images, (3, 1, 1, 1)), np.tile(labels, 3)
    if own is not None:
        data = tf.data.Dataset.from_tensor_slices(data).batch(own)
    sizes = []
    run = replicas.Replicas.run

    def counted(self, function, rows, enough):
        sizes.append(len(rows[0]))
        return run(self, function, rows, enough)

    monkeypatch.setattr(replicas.Replicas, "run", counted)
    evaluate_robustness(network, data, attack(), batch_size=given, verbose=0)
    assert max(sizes) == expected


def test_worst_case_is_over_all_attacks(trained):
    network, images, labels = trained
    one, other = attack(name="a"), PGDAttack(0.3, norm="l2", steps=4, seed=1, name="b")
    report = evaluate_robustness(network, (images, labels), [one, other], verbose=0)
    both = report.robust["a"] & report.robust["b"]
    assert report.worst_case == both.mean()


def test_max_examples_takes_the_first(trained):
    network, images, labels = trained
    report = evaluate_robustness(
        network, (images, labels), attack(), max_examples=33, verbose=0
    )
    whole = evaluate_robustness(network, (images, labels), attack(), verbose=0)
    assert report.examples == 33
    natural, robust = (
        (found.robust[name][:33] for found in (report, whole))
        for name in ("natural", "pgd4")
    )
    np.testing.assert_array_equal(*natural)
    # In another batch the gradient is rounded otherwise, and an example at the edge
    # may fall.
    assert np.not_equal(*robust).sum() <= 1


def test_the_report_as_text_markdown_and_json(trained):
    network, images, labels = trained
    report = evaluate_robustness(network, (images, labels), attack(), verbose=0)
    natural = f"{report.accuracy['natural']:.2%}"
    assert natural in str(report)
    assert "| natural | " + natural in report.to_markdown()
    read = json.loads(report.to_json())
    assert read["schema_version"] == 2
    assert read["accuracy"] == report.accuracy
    assert read["threat_models"]["pgd4"]["epsilon"] == 0.08
    assert read["threat_models"]["pgd4"]["seed"] == 5
    assert read["threat_models"]["pgd4"]["logits"] == "logits"
    assert np.sum(read["robust"]["pgd4"]) == report.robust["pgd4"].sum()
    assert set(report.seconds) == {"natural", "pgd4"}


def test_a_progress_bar_for_each_part_names_it_and_tells_the_accuracy(trained, capsys):
    network, images, labels = trained
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(40)
    report = evaluate_robustness(network, data, attack(), batch_size=32)
    lines = re.findall(r"[^\r\n]*150/150.*", capsys.readouterr().out)
    assert len(lines) == 2
    for line, name in zip(lines, report.accuracy, strict=True):
        # The last of them, as a terminal shows it: on a slow machine the full bar was
        # drawn before, with the time that is left.
        *_, shown = re.findall(rf"- {name}: ([0-9.]+)", line)
        assert float(shown) == pytest.approx(report.accuracy[name], abs=1e-4)


def test_what_withstands_costs_what_the_progress_bar_reckons_with(trained):
    """Of a model that no attack fools, so that every run goes to its end."""
    _, images, labels = trained
    sure = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    kernel, bias = sure.get_weights()
    sure.set_weights([1e-3 * kernel, bias + [5.0, 0.0, 0.0]])
    attacks = [
        attack(restarts=2),
        APGDAttack(0.08, steps=3, loss="targeted_dlr", targets=2, seed=0),
        FABAttack(0.08, steps=3, seed=0),
        SquareAttack(0.08, queries=7, seed=0),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = evaluate_robustness(
            sure, (images[:40], labels[:40]), attacks, batch_size=40, verbose=0
        )
    right = int(report.robust["natural"].sum())
    assert right > 5
    for each in attacks:
        assert report.robust[each.name].sum() == right
        made = report.passes[each.name]
        cost = cost_to_withstand(each, Predictions("logits", 3))
        assert made["forward"] + BACKWARD * made["backward"] == pytest.approx(
            right * cost
        )


def test_an_adversarial_model_is_attacked_in_the_ball_of_its_training(trained):
    network, images, labels = trained
    model = FreeAdversarialModel(network, epsilon=0.07, norm="l2")
    with pytest.warns(UserWarning, match="needs 4 classes, and the model has 3"):
        report = evaluate_robustness(
            model, (images[:6], labels[:6]), max_examples=6, verbose=0
        )
    assert list(report.accuracy) == ["natural", "pgd20", "autoattack"]
    for settings in report.threat_models.values():
        assert (settings["epsilon"], settings["norm"]) == (0.07, "l2")
    with pytest.raises(ValueError, match=r"Argument `attacks` is needed .* epsilon"):
        evaluate_robustness(network, (images, labels), verbose=0)


def test_few_examples_are_said_out_loud(trained):
    network, images, labels = trained
    with pytest.warns(UserWarning, match="Only 20 examples"):
        report = evaluate_robustness(
            network, (images[:20], labels[:20]), attack(), verbose=0
        )
    assert len(report.warnings) == 1


@pytest.mark.filterwarnings("ignore:.*input gradient is exactly zero")
def test_an_attack_that_fails_at_an_epsilon_over_the_whole_range_gives_a_warning():
    inputs = keras.Input((6, 6, 1))
    flat = keras.layers.Flatten()(inputs)
    # Rounds, with a gradient that is zero in float32 almost everywhere.
    stepped = keras.ops.sigmoid(1e5 * (flat - 0.5))
    network = keras.Model(inputs, keras.layers.Dense(3)(stepped))
    images, _ = small_images(120)
    labels = outputs_of(network, images).argmax(1)
    blind = PGDAttack(1.0, steps=2, random_start=False)
    with pytest.warns(UserWarning, match="covers the whole pixel range"):
        evaluate_robustness(network, (images, labels), blind, verbose=0)


def test_the_papers_attacks():
    cifar = paper_attacks("cifar10")
    assert [a.name for a in cifar] == ["pgd20", "pgd100", "cw100", "pgd20x10"]
    assert {(a.epsilon, a.step_size, a.keep) for a in cifar} == {
        (8 / 255, 2 / 255, "last")
    }
    imagenet = paper_attacks("imagenet")
    assert [a.name for a in imagenet] == ["pgd10", "pgd50", "pgd100"]
    assert {(a.epsilon, a.step_size) for a in imagenet} == {(4 / 255, 1 / 255)}
    assert [a.name for a in paper_attacks("cifar100")] == ["pgd20", "pgd100"]
