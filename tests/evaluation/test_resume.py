"""A long evaluation that is interrupted goes on where it stopped."""

import functools
import json

import keras
import numpy as np
import pytest

from keras_free_adv import (
    APGDAttack,
    AutoAttack,
    FABAttack,
    PGDAttack,
    SquareAttack,
    evaluate_robustness,
)
from keras_free_adv.evaluation.survivors import Survivors
from tests.conftest import from_logits, small_images, small_network

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    images, labels = small_images(60, classes=4)
    images[:, :3, :3, 0] = labels[:, None, None] / 3 * 0.4 + 0.3 * images[:, :3, :3, 0]
    network = small_network(classes=4)
    network.compile(keras.optimizers.Adam(0.01), from_logits())
    network.fit(images, labels, epochs=30, verbose=0)
    return network, images, labels


@functools.cache  # an attack is compiled once for a model
def attacks(seed=0):
    return [
        PGDAttack(0.05, steps=3, seed=seed),
        AutoAttack(
            0.05,
            seed=seed,
            attacks=[
                APGDAttack(0.05, steps=4, loss="targeted_dlr", seed=seed),
                FABAttack(0.05, steps=3, seed=seed),
                SquareAttack(0.05, queries=20, seed=seed),
            ],
        ),
    ]


def evaluate(trained, *, made=None, **settings):
    network, images, labels = trained
    return evaluate_robustness(
        network, (images, labels), made or attacks(), verbose=0, **settings
    )


def test_the_same_settings_give_the_same_report_bit_for_bit(trained):
    one, other = (evaluate(trained).to_json(seconds=False) for _ in range(2))
    assert one == other


def test_the_attacks_of_a_report_repeat_it(trained):
    report = evaluate(trained, made=[PGDAttack(0.05, steps=3, restarts=2)])
    again = evaluate(trained, made=type(report).from_json(report.to_json()).attacks())
    for name in report.robust:
        np.testing.assert_array_equal(report.robust[name], again.robust[name])


@pytest.mark.parametrize("interrupted_in", ["apgd_t", "fab_t", "square"])
def test_continued_after_an_interruption_it_equals_the_uninterrupted(
    trained, tmp_path, monkeypatch, interrupted_in
):
    path = tmp_path / "evaluation.json"
    whole = evaluate(trained)
    step = Survivors._step
    began = []

    def interrupted(self):
        if self._attack.name not in began:
            began.append(self._attack.name)
        if self._attack.name == interrupted_in:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(Survivors, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(trained, resume=path)
    first, began[:] = list(began), []
    interrupted_in = None
    continued = evaluate(trained, resume=path)
    assert continued.to_dict(seconds=False) == whole.to_dict(seconds=False)
    assert first[0] == "pgd3"
    assert began[0] == first[-1]  # what was finished is not run again
    assert not set(first[:-1]) & set(began)
    # Finished, the file answers at once.
    began.clear()
    again = evaluate(trained, resume=path)
    assert again.to_dict(seconds=False) == whole.to_dict(seconds=False)
    assert again.seconds["pgd3"] == continued.seconds["pgd3"]
    assert began == []


def test_more_attacks_can_be_added_to_a_finished_evaluation(trained, tmp_path):
    path = tmp_path / "deep" / "evaluation.json"
    first = evaluate(trained, made=attacks()[:1], resume=path)
    second = evaluate(trained, resume=path)
    assert second.seconds["pgd3"] == first.seconds["pgd3"]
    assert "autoattack" in second.accuracy
    # Another seed is another attack.
    third = evaluate(trained, made=attacks(seed=1)[:1], resume=path)
    assert third.seconds["pgd3"] != first.seconds["pgd3"]


def test_a_part_is_run_again_if_one_before_it_was_another(trained, tmp_path):
    """Square sees what APGD left standing: another APGD, another Square."""

    def ensemble(steps):
        return AutoAttack(
            0.05,
            seed=0,
            attacks=[
                APGDAttack(0.05, steps=steps, seed=0),
                SquareAttack(0.05, queries=20, seed=0),
            ],
        )

    path = tmp_path / "evaluation.json"
    evaluate(trained, made=[ensemble(1)], resume=path)
    evaluate(trained, made=[ensemble(9)], resume=path)
    assert len(json.loads(path.read_text())["stages"]) == 4


def test_a_file_of_another_model_or_other_data_is_refused(trained, tmp_path):
    network, images, labels = trained
    path = tmp_path / "evaluation.json"
    evaluate(trained, resume=path)
    kept = path.read_bytes()
    other = keras.models.clone_model(network)
    with pytest.raises(ValueError, match="`resume` names .* of another model"):
        evaluate((other, images, labels), resume=path)
    with pytest.raises(ValueError, match="`resume` names .* of another data"):
        evaluate((network, images[::-1], labels[::-1]), resume=path)
    with pytest.raises(ValueError, match="`resume` names .* of another data"):
        evaluate(trained, resume=path, max_examples=30)
    assert path.read_bytes() == kept


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}'])
def test_a_damaged_file_is_refused_and_kept(trained, tmp_path, text):
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="`resume` names a file that is no"):
        evaluate(trained, resume=path)
    assert path.read_text() == text


def test_the_file_is_whole_json_after_each_attack(trained, tmp_path, monkeypatch):
    path = tmp_path / "evaluation.json"
    seen = []
    finish = Survivors.finish

    def spied(self):
        if path.exists():
            seen.append(len(json.loads(path.read_text())["stages"]))
        return finish(self)

    monkeypatch.setattr(Survivors, "finish", spied)
    evaluate(trained, resume=path)
    assert seen == [1, 2, 3]


def test_without_a_seed_there_is_nothing_to_continue(trained, tmp_path):
    with pytest.raises(ValueError, match=r"`resume` needs attacks with a seed.*seed=0"):
        evaluate(
            trained, made=[PGDAttack(0.05, steps=3)], resume=tmp_path / "evaluation"
        )
