"""A search in half precision, of which the model itself is the judge."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_free_adv import (
    APGDAttack,
    FABAttack,
    FreeAdversarialModel,
    PGDAttack,
    RobustnessEvaluation,
    SquareAttack,
    evaluate_robustness,
)
from keras_free_adv.evaluation.robustness_report import RobustnessReport
from tests.conftest import outputs_of, small_images, small_network

pytestmark = pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")

EPSILON = 0.08


@keras.saving.register_keras_serializable("keras_free_adv_tests")
class InHalf(layers.Layer):
    """Passes on what comes, in half precision times `gain`, and remembers its dtypes.

    A gain of infinity stands for a layer that overflows.
    """

    def __init__(self, gain=1.0, **kwargs):
        super().__init__(**kwargs)
        self.gain = gain
        self.seen = set()

    def call(self, inputs):
        self.seen.add(self.compute_dtype)
        return inputs if self.compute_dtype == "float32" else inputs * self.gain


def data():
    """The three classes differ in one corner."""
    images, labels = small_images(150)
    images[:, :3, :3, 0] = labels[:, None, None] / 2 * 0.4 + 0.3 * images[:, :3, :3, 0]
    return images, labels


@pytest.fixture(scope="module")
def network():
    """A natural network that attacks break in part."""
    keras.utils.set_random_seed(0)
    images, labels = data()
    network = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(3),
        ]
    )
    network.compile(
        keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(True)
    )
    network.fit(images, labels, epochs=40, verbose=0)
    return network


def with_layer(network, layer):
    """The network, with one more layer before its first Dense."""
    *body, hidden, logits = network.layers
    return keras.Sequential([keras.Input((6, 6, 1)), *body, layer, hidden, logits])


def attacks():
    return [
        PGDAttack(EPSILON, steps=6, seed=5),
        APGDAttack(EPSILON, steps=12, seed=5),
        FABAttack(EPSILON, steps=8, targets=2, seed=5),
        SquareAttack(EPSILON, queries=60, seed=5),
    ]


def evaluated(model, search_dtype, attack=None, **settings):
    return evaluate_robustness(
        model,
        data(),
        attacks() if attack is None else [attack],
        batch_size=32,
        verbose=0,
        search_dtype=search_dtype,
        **settings,
    )


@pytest.fixture(scope="module")
def reports(network):
    return {dtype: evaluated(network, dtype) for dtype in ("float32", "bfloat16")}


def test_verdicts_are_those_of_a_search_in_float32(reports):
    half, full = reports["bfloat16"], reports["float32"]
    for name, robust in full.robust.items():
        changed = (robust != half.robust[name]).sum()
        assert changed == 0 if name == "natural" else changed <= 2, name
        assert 0 < half.accuracy[name] < 1 or name == "natural"


@pytest.mark.parametrize("search_dtype", ["bfloat16", "float16"])
def test_it_can_be_repeated(network, search_dtype):
    pgd = PGDAttack(EPSILON, steps=6, seed=5)
    half, again, full = (
        evaluated(network, dtype, pgd)
        for dtype in (search_dtype, search_dtype, "float32")
    )
    np.testing.assert_array_equal(half.robust["pgd6"], again.robust["pgd6"])
    assert half.passes == again.passes
    assert (half.robust["pgd6"] != full.robust["pgd6"]).sum() <= 1


def test_who_falls_falls_to_the_model_itself(network, reports):
    images, labels = data()
    report = reports["bfloat16"]
    for name, points in report.predicted.adversarial.items():
        shown = len(points)
        fell = ~report.robust[name][:shown] & report.robust["natural"][:shown]
        assert fell.any()
        wrong = outputs_of(network, points).argmax(1) != labels[:shown]
        assert wrong[fell].all()
        assert np.abs(points - images[:shown]).max() <= EPSILON + 1e-6


@pytest.mark.parametrize("gain", [-1.0, 30.0])
def test_claims_that_the_model_refutes_end_no_run(network, gain):
    """Upside down, or hardly a class ahead of another in what the search sees."""
    model = with_layer(network, InHalf(gain))
    report = evaluated(model, "bfloat16", PGDAttack(EPSILON, steps=6, seed=5))
    full = evaluated(model, "float32", PGDAttack(EPSILON, steps=6, seed=5))
    refuted = report.settings["refuted_claims"]["pgd6"]
    assert refuted > 0
    # Nobody falls who did not, and each run made all of its steps.
    assert (full.robust["pgd6"] <= report.robust["pgd6"]).mean() > 0.95
    standing = int(report.robust["pgd6"].sum())
    assert report.passes["pgd6"]["backward"] >= standing * 7


@pytest.mark.filterwarnings("ignore:.*cannot reach the edge")
def test_the_best_point_of_a_run_that_claims_nothing_is_shown_to_the_model(network):
    """In half precision every class is alike: there is no margin to claim by."""
    model = with_layer(network, InHalf(0.0))
    images, labels = data()
    # The random start of a run is all there is; the model judges it.
    attack = PGDAttack(0.3, steps=1, step_size=1e-6, seed=5)
    report = evaluated(model, "bfloat16", attack)
    start = PGDAttack(0.3, steps=1, step_size=1e-6, seed=5)
    points = ops.convert_to_numpy(start(images, labels, model=model))
    stands = (outputs_of(model, points).argmax(1) == labels) & report.robust["natural"]
    assert 0.05 < stands.mean() < report.accuracy["natural"] - 0.05
    np.testing.assert_array_equal(report.robust["pgd1"], stands)


def test_square_stays_in_float32(network):
    """It follows small differences of the loss, which half precision rounds away."""
    seen = InHalf()
    square = SquareAttack(EPSILON, queries=20, seed=5)
    evaluated(with_layer(network, seen), "bfloat16", square)
    assert seen.seen == {"float32"}


@pytest.mark.parametrize(
    "attack",
    [
        PGDAttack(EPSILON, steps=6, seed=5),
        APGDAttack(EPSILON, steps=8, seed=5),
    ],
    ids=lambda attack: attack.name,
)
def test_where_half_precision_overflows_float32_takes_its_place(network, attack):
    model = with_layer(network, InHalf(np.inf))
    half = evaluated(model, "float16", attack)
    full = evaluated(model, "float32", attack)
    changed = half.robust[attack.name] != full.robust[attack.name]
    assert changed.sum() <= 1
    assert full.accuracy[attack.name] < full.accuracy["natural"]


@pytest.mark.filterwarnings("ignore:.*logits this large")
def test_where_the_gradient_alone_overflows_float32_takes_its_place(network):
    """Logits of hundreds, times the loss scale: no slope is left in float16."""
    hot = keras.Sequential([network, layers.Rescaling(3000.0)])
    attack = PGDAttack(EPSILON, steps=6, seed=5, loss="cw_margin")
    half, full = (evaluated(hot, dtype, attack) for dtype in ("float16", "float32"))
    assert full.accuracy["cw6"] < full.accuracy["natural"] - 0.2
    assert (half.robust["cw6"] != full.robust["cw6"]).sum() <= 1


def test_the_report_says_it(network):
    report = evaluated(network, "bfloat16", PGDAttack(EPSILON, steps=2, seed=5))
    assert report.settings["search_dtype"] == "bfloat16"
    assert "searched in bfloat16, each verdict is the model's own" in str(report)
    read = RobustnessReport.from_json(report.to_json())
    assert read.settings["search_dtype"] == "bfloat16"
    plain = evaluated(network, "float32", PGDAttack(EPSILON, steps=2, seed=5))
    assert plain.settings["search_dtype"] == "float32"
    assert "searched" not in str(plain)


@pytest.mark.parametrize("then", ["float32", "float16"])
def test_a_resumed_evaluation_refuses_another(network, tmp_path, then):
    attack = PGDAttack(EPSILON, steps=2, seed=5)
    path = tmp_path / "evaluation.json"
    first = evaluated(network, "bfloat16", attack, resume=path)
    before = path.read_text()
    with pytest.raises(
        ValueError, match=f"search_dtype='bfloat16', now it is '{then}'"
    ):
        evaluated(network, then, attack, resume=path)
    assert path.read_text() == before
    again = evaluated(network, "bfloat16", attack, resume=path)
    assert again.seconds["pgd2"] == first.seconds["pgd2"]
    assert again.settings["refuted_claims"] == first.settings["refuted_claims"]
    assert list(again.settings["refuted_claims"]) == ["pgd2"]


class InPython(keras.Model):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def call(self, images):
        return self.network(images)


class OfFloat32(keras.layers.Layer):
    """Computes in no other dtype."""

    def call(self, inputs):
        if self.compute_dtype != "float32":
            raise TypeError("of float32 alone")
        return inputs


def noisy():
    noise = layers.GaussianNoise(0.3)
    noise.call = lambda inputs, **_: layers.GaussianNoise.call(
        noise, inputs, training=True
    )
    return noise


@pytest.mark.filterwarnings("ignore:.*random")
def test_what_cannot_be_searched_so_is_refused(network):
    attack = PGDAttack(EPSILON, steps=2, seed=5)
    with pytest.raises(ValueError, match="`search_dtype` must be one of"):
        evaluated(network, "half", attack)
    with pytest.raises(ValueError, match="whose `call` is Python"):
        evaluated(InPython(network), "bfloat16", attack)
    with pytest.raises(ValueError, match="that draws random numbers"):
        evaluated(with_layer(network, noisy()), "bfloat16", attack)
    with pytest.raises(
        ValueError, match="(?s)layers cannot compute in bfl.*of float32"
    ):
        evaluated(with_layer(network, OfFloat32()), "bfloat16", attack)
    images, labels = data()
    rows = np.eye(3, dtype="int32")[labels]
    rows[:, 0] = 1
    with pytest.raises(ValueError, match="several labels at once"):
        evaluate_robustness(
            network,
            (images, rows),
            PGDAttack(EPSILON, steps=2, seed=5, predicts="labels", from_logits=True),
            verbose=0,
            search_dtype="bfloat16",
        )


def test_the_callback_passes_it_on():
    images, labels = small_images(64)
    seen = InHalf()
    network = with_layer(
        keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                layers.Conv2D(4, 3),
                layers.Flatten(),
                layers.Dense(8),
                layers.Dense(3),
            ]
        ),
        seen,
    )
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    robust = RobustnessEvaluation(
        (images, labels), PGDAttack(0.1, steps=2, seed=0), search_dtype="bfloat16"
    )
    assert robust.get_config()["search_dtype"] == "bfloat16"
    history = network.fit(images, labels, callbacks=[robust], verbose=0).history
    assert 0 <= history["val_pgd2_accuracy"][0] <= 1
    assert seen.seen == {"float32", "bfloat16"}
    with pytest.raises(ValueError, match="`search_dtype` must be one of"):
        RobustnessEvaluation((images, labels), attacks(), search_dtype="float8")
    linear = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(3)]
    )
    linear.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    began = linear.get_weights()
    with pytest.raises(ValueError, match="no layer can be given another dtype"):
        linear.fit(images, labels, callbacks=[robust], verbose=0)
    for before, after in zip(began, linear.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_an_adversarial_model_is_searched_as_the_one_inside():
    images, labels = small_images(40)
    seen = InHalf()
    network = small_network()
    inside = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            *network.layers[:-1],
            seen,
            layers.Dense(4),
            layers.Dense(3),
        ]
    )
    model = FreeAdversarialModel(inside, epsilon=0.1)
    evaluate_robustness(
        model,
        (images, labels),
        PGDAttack(0.1, steps=2, seed=0),
        verbose=0,
        search_dtype="float16",
    )
    assert seen.seen == {"float32", "float16"}
