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
from keras_free_adv.evaluation.finished_stages import FinishedStages, Stage
from keras_free_adv.evaluation.model_identity import identity_of
from keras_free_adv.evaluation.packing import Survivors
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
    for name, images in whole.predicted.adversarial.items():
        np.testing.assert_array_equal(continued.predicted.adversarial[name], images)
        np.testing.assert_array_equal(again.predicted.adversarial[name], images)
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
    with pytest.raises(
        ValueError, match=r"`resume` .* another model \(other weights\)"
    ):
        evaluate((other, images, labels), resume=path)
    with pytest.raises(
        ValueError, match=r"`resume` .* another data \(other checksum\)"
    ):
        evaluate((network, images[::-1], labels[::-1]), resume=path)
    with pytest.raises(ValueError, match=r"`resume` .* data \(other .*max_examples"):
        evaluate(trained, resume=path, max_examples=30)
    assert path.read_bytes() == kept


class Opaque(keras.Model):
    """A model of which Keras has no configuration."""

    def __init__(self, network, before=lambda images: images, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.before = before

    def call(self, inputs):
        return self.network(self.before(inputs))

    def get_config(self):
        raise NotImplementedError


def behind(*layers):
    """A model of these layers, and the same with its logits times 10,000."""
    model = keras.Sequential([keras.Input((6, 6, 1)), *layers])
    return model, keras.Sequential([model, keras.layers.Rescaling(1e4)])


def with_another_policy(network):
    policy = keras.DTypePolicy("mixed_bfloat16")
    opaque = Opaque(network, dtype=policy)
    return Opaque(network), opaque


@pytest.mark.parametrize(
    ("models", "apart"),
    [
        # The same weights, and the same predictions.
        (lambda network: (network, behind(network)[1]), "architecture"),
        (with_another_policy, "dtypes"),
        # No configuration to compare: its predictions show it.
        (
            lambda network: (Opaque(network), Opaque(network, lambda x: 1.0 - x)),
            "predictions",
        ),
    ],
    ids=["scaled", "policy", "inverted"],
)
def test_another_model_of_the_same_weights_is_refused(trained, tmp_path, models, apart):
    network, images, labels = trained
    one, other = models(network)
    for model in (one, other):
        model(images)
        for mine, its in zip(model.get_weights(), network.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, its)
    path = tmp_path / "evaluation.json"
    made = [PGDAttack(0.05, steps=1, seed=0)]
    evaluate((one, images, labels), made=made, resume=path)
    with pytest.raises(ValueError, match=rf"another model \(other {apart}\)"):
        evaluate((other, images, labels), made=made, resume=path)
    evaluate((one, images, labels), made=made, resume=path)


def branched(activation="relu"):
    image = keras.Input((6, 6, 1))
    x = keras.layers.Flatten()(image)
    both = [keras.layers.Dense(4, activation=activation)(x) for _ in range(2)]
    return keras.Model(image, keras.layers.Dense(3)(keras.layers.Add()(both)))


def test_the_same_model_has_the_same_identity_whatever_keras_calls_it():
    one, again, other = branched(), branched(), branched("tanh")
    for model in (again, other):
        model.set_weights(one.get_weights())
    again.compile("sgd", from_logits())
    again(np.zeros((5, 6, 6, 1), "float32"))
    assert [layer.name for layer in one.layers] != [
        layer.name for layer in again.layers
    ]
    assert identity_of(one) == identity_of(again)
    assert identity_of(one)["architecture"] is not None
    apart = [k for k, v in identity_of(one).items() if identity_of(other)[k] != v]
    assert apart == ["architecture"]


def test_an_attack_that_reads_the_outputs_otherwise_is_another(tmp_path):
    """All outputs lie above 0.5: class 1, be they probabilities or logits."""
    images, _ = small_images(20)
    unit = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer="ones"),
        ]
    )
    unit.set_weights([weight * 0.75 for weight in unit.get_weights()])
    path = tmp_path / "evaluation.json"
    for count, said in enumerate((True, False), 1):
        unit.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=said))
        made = [PGDAttack(0.05, steps=1, seed=0)]
        report = evaluate((unit, images, np.ones(20, int)), made=made, resume=path)
        assert report.accuracy["natural"] == 1.0
        assert len(json.loads(path.read_text())["stages"]) == count


def finished(path, natural, **settings):
    return FinishedStages(
        path,
        model={"weights": "1"},
        data={"examples": len(natural)},
        natural=natural,
        **settings,
    )


def test_what_rounding_moves_is_as_it_was_when_the_file_was_begun(tmp_path):
    """One of a thousand; or of a model that draws random numbers, any."""
    path = tmp_path / "evaluation.json"
    natural = np.arange(1000) < 900
    finished(path, natural).add({"a": 1}, Stage(natural, 1.0, 2, 3))
    one, two = natural.copy(), natural.copy()
    one[:1], two[:2] = False, False
    continued = finished(path, one)
    np.testing.assert_array_equal(continued.natural, natural)
    stage = continued.find({"a": 1})
    np.testing.assert_array_equal(stage.standing, natural)
    assert (stage.seconds, stage.forward, stage.backward) == (1.0, 2, 3)
    assert continued.find({"a": 2}) is None
    with pytest.raises(ValueError, match=r"other predictions.* 2 of 1000"):
        finished(path, two)
    np.testing.assert_array_equal(finished(path, two, random=True).natural, natural)


@pytest.mark.parametrize("field", ["standing", "seconds", "forward"])
def test_a_stage_that_lacks_something_is_refused(tmp_path, field):
    path = tmp_path / "evaluation.json"
    natural = np.ones(5, bool)
    finished(path, natural).add({"a": 1}, Stage(natural, 1.0, 2, 3))
    read = json.loads(path.read_text())
    (stage,) = read["stages"].values()
    del stage[field]
    path.write_text(json.dumps(read))
    with pytest.raises(ValueError, match=f"`resume` names a file that is no.*{field}"):
        finished(path, natural)


def test_the_first_images_are_kept_to_the_bit(tmp_path):
    path = tmp_path / "evaluation.json"
    natural = np.ones(5, bool)
    images = np.random.default_rng(0).uniform(0, 1, (3, 4, 4, 1)).astype("float32")
    finished(path, natural).add({"a": 1}, Stage(natural, 1.0, 2, 3, images=images))
    read = finished(path, natural).find({"a": 1}).images
    assert read.dtype == "float32"
    np.testing.assert_array_equal(read, images)


@pytest.mark.parametrize(
    "damage",
    [
        {"shape": [3, 4, 4, 2]},
        {"pixels": "not base64"},
        {"pixels": "bm90IHppcHBlZA=="},
        {"pixels": None},
    ],
    ids=str,
)
def test_damaged_images_are_refused(tmp_path, damage):
    path = tmp_path / "evaluation.json"
    natural = np.ones(5, bool)
    images = np.zeros((3, 4, 4, 1), "float32")
    finished(path, natural).add({"a": 1}, Stage(natural, 1.0, 2, 3, images=images))
    read = json.loads(path.read_text())
    (stage,) = read["stages"].values()
    stage["images"] |= damage
    path.write_text(json.dumps(read))
    with pytest.raises(ValueError, match="`resume` names a file that is no"):
        finished(path, natural)


def test_a_file_of_an_older_version_is_refused(trained, tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text('{"schema_version": 1, "model": "f00", "data": {}, "stages": {}}')
    with pytest.raises(ValueError, match="another schema_version: .* has 1, now it is"):
        evaluate(trained, resume=path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 2}'])
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
