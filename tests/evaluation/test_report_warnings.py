"""Each warning has a model or report that gives it, and honest ones that do not."""

import dataclasses
import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import (
    APGDAttack,
    AutoAttack,
    FABAttack,
    PGDAttack,
    RobustnessReport,
    SquareAttack,
    evaluate_robustness,
    paper_attacks,
)
from keras_free_adv.evaluation.probe import Probe
from keras_free_adv.evaluation.report_warnings import warnings_of
from tests.attacks.test_pgd_attack import linear_model
from tests.conftest import outputs_of

layers = keras.layers
SHAPE = (8, 8, 1)
TRAINED_ON = 400


def blobs(classes=4, seed=0):
    """800 noisy images of a pattern a class; the last 400 are for evaluation."""
    generator = np.random.default_rng(seed)
    patterns = generator.uniform(-0.175, 0.175, (classes, *SHAPE))
    labels = generator.integers(0, classes, 2 * TRAINED_ON)
    noise = generator.normal(0, 0.175, (len(labels), *SHAPE))
    return np.clip(0.5 + patterns[labels] + noise, 0, 1).astype("float32"), labels


def trained_model(*of, classes=4, epochs=20, learning_rate=3e-3, loss=None):
    """A model of these layers, and the examples to evaluate it on."""
    images, labels = blobs(classes)
    model = keras.Sequential([keras.Input(SHAPE), *of])
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(learning_rate), loss)
    model.fit(
        images[:TRAINED_ON],
        labels[:TRAINED_ON],
        batch_size=32,
        epochs=epochs,
        verbose=0,
    )
    return model, (images[TRAINED_ON:], labels[TRAINED_ON:])


def convolutional():
    return [
        layers.Conv2D(8, 3, activation="relu"),
        layers.Conv2D(8, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(4),
    ]


@pytest.fixture(scope="module")
def undefended():
    keras.utils.set_random_seed(0)
    return trained_model(*convolutional())


class Call(layers.Layer):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


class RandomInInference(layers.Layer):
    """A random transformation, `draw(images, seed)`, which inference keeps."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw
        self.generator = keras.random.SeedGenerator(0)

    def call(self, inputs):
        return self.draw(inputs, self.generator)


def noise(images, seed):
    return images + 0.1 * keras.random.normal(keras.ops.shape(images), seed=seed)


def resize(images, seed):
    """To 5 to 7 pixels a side, one size a batch, and back."""
    resized = keras.ops.image.resize
    return one_of(
        [resized(resized(images, (s, s)), SHAPE[:2]) for s in (5, 6, 7)], seed
    )


def shift(images, seed):
    """By up to a pixel, one shift a batch."""
    ways = itertools.product((-1, 0, 1), repeat=2)
    return one_of([keras.ops.roll(images, by, axis=(1, 2)) for by in ways], seed)


def one_of(choices, seed):
    number = keras.random.randint((), 0, len(choices), seed=seed)
    return keras.ops.take(keras.ops.stack(choices), number, axis=0)


def quantized(images):
    return keras.ops.round(images * 3) / 3


def cast(images):
    return keras.ops.cast(keras.ops.cast(images * 3.999, "int32"), "float32") / 3


def without_batch_mean(images):
    return images - keras.ops.mean(images, axis=0, keepdims=True) + 0.5


def misleading(images):
    """A staircase, on which the gradient points the wrong way."""
    steps = keras.ops.round(15 * images) / 15
    return keras.ops.stop_gradient(steps + 1e-3 * images) - 1e-3 * images


def defended(undefended, before=None, after=None):
    model, data = undefended
    parts = [part for part in (before, model, after) if part is not None]
    return keras.Sequential([keras.Input(SHAPE), *parts]), data


def pgd(**settings):
    return PGDAttack(**{"epsilon": 0.06, "steps": 10, "seed": 1, **settings})


def apgd(**settings):
    return APGDAttack(**{"epsilon": 0.06, "steps": 12, "seed": 2, **settings})


def square(**settings):
    return SquareAttack(**{"epsilon": 0.06, "queries": 100, "seed": 3, **settings})


def evaluation_warnings(model, data, attacks):
    with pytest.warns(UserWarning, match="."):
        report = evaluate_robustness(model, data, attacks, verbose=0)
    return report.warnings


def assert_says(found, *expected):
    """One warning for each of `expected`, in their order, and no other."""
    assert len(found) == len(expected), found
    for warning, pattern in zip(found, expected, strict=True):
        assert re.search(pattern, warning), warning


# Models that give a warning.


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("step", [quantized, cast], ids=["round", "cast"])
def test_a_preprocessing_step_without_a_gradient(undefended, step):
    model, data = defended(undefended, before=Call(step))
    found = evaluation_warnings(model, data, [pgd(random_start=False), square()])
    # Without a gradient PGD stays where it is, and any success of Square's is more.
    assert_says(
        found,
        r"^pgd10: on (\d+) of \1 \(100%\) correctly .*BPDA",
        "^square, which sees no gradient, breaks .* more than pgd10, which should",
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("draw", [noise, resize, shift])
def test_a_forward_pass_that_draws_random_numbers(undefended, draw):
    model, data = defended(undefended, before=RandomInInference(draw))
    attacks = [pgd(), square(), apgd(gradient_samples=2)]
    assert_says(
        evaluation_warnings(model, data, attacks),
        r"^pgd10, square: the outputs for .* of 128 .*version='rand'",
    )


def test_a_random_model_under_an_attack_made_for_it_gives_no_warning(undefended):
    model, data = defended(undefended, before=RandomInInference(noise))
    report = evaluate_robustness(model, data, apgd(gradient_samples=2), verbose=0)
    assert report.warnings == []


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_logits_so_large_that_the_cross_entropy_saturates(undefended):
    model, data = defended(undefended, after=layers.Rescaling(1e4))
    found = evaluation_warnings(
        model, data, [pgd(), pgd(loss="cw_margin"), apgd(loss="dlr")]
    )
    assert_says(found, "^pgd10: on .* logits this large .*loss='cw_margin'")


def test_the_remedy_for_large_logits_gives_no_warning(undefended):
    model, data = defended(undefended, after=layers.Rescaling(1e4))
    attacks = [pgd(loss="cw_margin"), apgd(loss="dlr"), square()]
    assert evaluate_robustness(model, data, attacks, verbose=0).warnings == []


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_probabilities_that_saturate_behind_an_operation_that_hides_the_softmax(
    undefended,
):
    hidden = Call(lambda logits: 1.0 * keras.ops.softmax(30.0 * logits))
    model, data = defended(undefended, after=hidden)
    assert_says(
        evaluation_warnings(model, data, [pgd(loss="cw_margin"), apgd()])[:1],
        "^cw10, apgd_ce: on .* probability of the true class saturates.*from_logits",
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_probabilities_read_as_logits_and_logits_read_as_probabilities(undefended):
    softmax, data = defended(undefended, after=layers.Softmax())
    assert_says(
        evaluation_warnings(softmax, data, [pgd(from_logits=True)])[:1],
        "^pgd10: the outputs are read as logits.*Pass from_logits='auto'",
    )
    assert_says(
        evaluation_warnings(undefended[0], data, [pgd(from_logits=False)])[:1],
        "^pgd10: the outputs are read as probabilities.*Pass from_logits=True",
    )


both_orders = pytest.mark.parametrize("order", [1, -1], ids=["first", "last"])


def of_misreading(found):
    return [warning for warning in found if "the outputs are read as" in warning]


@both_orders
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_outputs_that_one_of_the_attacks_misreads(undefended, order):
    softmax, data = defended(undefended, after=layers.Softmax())
    attacks = [pgd(), pgd(name="misled", from_logits=True), square()]
    assert_says(
        of_misreading(evaluation_warnings(softmax, data, attacks[::order])),
        "^misled: the outputs are read as logits, but they are .* of a final softmax",
    )
    attacks = [pgd(), pgd(name="misled", from_logits=False)]
    assert_says(
        of_misreading(evaluation_warnings(undefended[0], data, attacks[::order])),
        "^misled: the outputs are read as probabilities, but they lie between -",
    )


@both_orders
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_sigmoid_unit_that_one_of_the_attacks_misreads(order):
    """As a logit, a probability is always on the side of class 1."""
    unit = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Flatten(),
            *linear_model([[1.0], [-1.0]] * 8, activation="sigmoid").layers,
        ]
    )
    images = np.random.default_rng(0).uniform(0, 1, (400, 4, 4, 1)).astype("float32")
    labels = (outputs_of(unit, images)[:, 0] > 0.5).astype(int)
    attacks = [pgd(), pgd(name="misled", from_logits=True)]
    assert_says(
        of_misreading(evaluation_warnings(unit, (images, labels), attacks[::order])),
        "^misled: the outputs are read as logits, .* final sigmoid.*from_logits='auto'",
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_predictions_that_depend_on_the_rest_of_the_batch(undefended):
    model, data = defended(undefended, before=Call(without_batch_mean))
    assert_says(
        evaluation_warnings(model, data, [pgd(), square()]),
        r"^The outputs for (\d\d) of 64 .* change with the rest of their minibatch",
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_gradient_that_misleads(undefended):
    """No gradient is zero here; only the comparison with Square shows it."""
    model, data = defended(undefended, before=Call(misleading))
    margin = apgd(loss="dlr")
    whole = AutoAttack(0.06, attacks=[margin, square()], seed=0)
    assert_says(
        evaluation_warnings(model, data, [margin, square()]),
        "^square, which sees no gradient, breaks .* more than apgd_dlr.*misleads",
    )
    assert_says(
        evaluation_warnings(model, data, whole),
        "^autoattack: square, which sees no gradient, breaks .* after the attacks",
    )


def test_a_wrong_pixel_scale(undefended):
    """Images in [0, 1], said to be in 0..255."""
    scale = {"value_range": (0, 255), "epsilon": 8}
    with pytest.warns(UserWarning, match="^Pixels") as caught:
        evaluate_robustness(*undefended, pgd(**scale), verbose=0)
    assert_says(
        [str(one.message) for one in caught if one.category is UserWarning],
        r"^Pixels lie between .* and 1, 0.4% of value_range=\(0, 255\)",
    )


# Honest models.


def honest(name):
    if name == "linear":
        return trained_model(layers.Flatten(), layers.Dense(4))
    if name == "softmax":
        return trained_model(
            *convolutional(),
            layers.Softmax(),
            loss="sparse_categorical_crossentropy",
        )
    if name == "overfit":
        wide = [layers.Dense(128, activation="relu") for _ in range(2)]
        return trained_model(
            layers.Flatten(), *wide, layers.Dense(4), epochs=100, learning_rate=1e-2
        )
    if name == "batch_normalization":
        return trained_model(
            layers.Conv2D(8, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(4),
        )
    if name == "one_unit":
        return trained_model(
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
            classes=2,
            loss="binary_crossentropy",
        )
    if name in ("mixed_bfloat16", "mixed_float16"):
        keras.config.set_dtype_policy(name)
    return trained_model(*convolutional())


@pytest.mark.parametrize(
    "name",
    [
        "linear",
        "convolutional",
        "softmax",
        "overfit",
        "batch_normalization",
        "one_unit",
        "mixed_bfloat16",
        "mixed_float16",
    ],
)
def test_an_honest_model_gives_no_warning(name):
    model, data = honest(name)
    keras.config.set_dtype_policy("float32")
    attacks = [pgd(steps=1), pgd(), pgd(restarts=3), apgd(), square()]
    report = evaluate_robustness(model, data, attacks, verbose=0)
    assert report.warnings == []
    assert report.accuracy["pgd10"] < report.accuracy["natural"]


def test_honest_sweeps_give_no_warning(undefended):
    """Larger and larger epsilon up to the whole range, and both norms."""
    attacks = [pgd(epsilon=eps, name=f"{eps}") for eps in (0.01, 0.1, 0.5, 1.0)]
    attacks += [
        pgd(norm="l2", epsilon=0.3, name="l2"),
        square(norm="l2", epsilon=0.3, name="square_l2"),
        AutoAttack(0.06, attacks=[apgd(), FABAttack(0.06, steps=5), square()], seed=0),
    ]
    assert evaluate_robustness(*undefended, attacks, verbose=0).warnings == []


DEFENCES = {
    "none": {},
    "round": {"before": quantized},
    "cast": {"before": cast},
    "batch_mean": {"before": without_batch_mean},
    "misleading": {"before": misleading},
    "large_logits": {"after": lambda logits: 1e4 * logits},
    "hidden_softmax": {"after": lambda logits: 1.0 * keras.ops.softmax(30.0 * logits)},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", DEFENCES)
def test_a_search_in_half_precision_gives_the_same_warnings(undefended, name):
    where = {side: Call(function) for side, function in DEFENCES[name].items()}
    model, data = defended(undefended, **where)
    attacks = [pgd(random_start=False), apgd(loss="dlr"), square()]
    said = [
        [
            re.sub(r"\d[\d.,]*", "#", warning)
            for warning in evaluate_robustness(
                model, data, attacks, verbose=0, search_dtype=dtype
            ).warnings
        ]
        for dtype in ("float32", "bfloat16")
    ]
    assert said[0] == said[1]
    assert bool(said[0]) == (name != "none")


# Numbers in, strings out.


HONEST = Probe(
    source="logits",
    shape=SHAPE,
    lowest_pixel=0.0,
    highest_pixel=1.0,
    most_frequent=0.25,
    images=128,
    predicted_classes=4,
    lowest_output=-5.0,
    highest_output=5.0,
    moved=64,
    correct=100,
)


def said(attacks, broken, examples=1000, probe=HONEST, stages=None, **changes):
    """The warnings about attacks that break the examples of these numbers."""
    wrong = []
    if len(broken) > len(attacks):  # those that are misclassified come first
        wrong, *broken = broken
    robust = {"natural": ~np.isin(np.arange(examples), list(wrong))}
    for attack, numbers in zip(attacks, broken, strict=True):
        robust[attack.name] = ~np.isin(np.arange(examples), list(numbers))
    # Unless said otherwise, the first part of an ensemble finds all that it finds.
    found_first = {
        attack.name: {p.name: robust[attack.name].mean() for p in attack.parts()}
        for attack in attacks
    }
    report = RobustnessReport(
        accuracy={name: float(stands.mean()) for name, stands in robust.items()},
        robust=robust,
        worst_case=float(np.logical_and.reduce(list(robust.values())).mean()),
        seconds={},
        threat_models={
            attack.name: {
                "logits": probe.source,
                "value_range": attack.value_range or (0.0, 1.0),
            }
            for attack in attacks
        },
        stages=found_first if stages is None else stages,
    )
    seen = dataclasses.replace(probe, **changes)
    return warnings_of(report, attacks, {attack.name: seen for attack in attacks})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # More than 5% of 100, 128 or 64.
        ({"saturated": 5}, None),
        ({"saturated": 6}, r"6 of 100 \(6%\).*cross-entropy is lost"),
        ({"without_gradient": 5}, None),
        ({"without_gradient": 6}, r"6 of 100 \(6%\).*exactly zero or not finite"),
        ({"random": 6}, None),
        ({"random": 7}, r"7 of 128 \(5%\) images change from one forward pass"),
        ({"changed_by_batch": 3}, None),
        ({"changed_by_batch": 4}, r"4 of 64 \(6%\) images change with the rest"),
        # A random model changes in another batch, too.
        ({"random": 7, "changed_by_batch": 64}, "from one forward pass"),
        # At least 3, whatever the share.
        ({"correct": 2, "without_gradient": 2}, None),
        ({"correct": 3, "without_gradient": 3}, r"3 of 3 \(100%\)"),
    ],
)
def test_shares_of_the_images_looked_at(changes, expected):
    found = said([pgd()], [range(500)], **changes)
    assert_says(found, *([expected] if expected else []))


def test_outputs_that_are_misread_are_all_there_is_to_say():
    outputs = {"lowest_output": 0.0, "highest_output": 1.0, "shares": True}
    found = said([pgd()], [range(500)], **outputs, saturated=50)
    assert_says(found, "^pgd10: the outputs are read as logits, but they lie between 0")


def test_warnings_about_an_attack_depend_on_the_logits_it_uses():
    """Two that read its outputs as logits, two as probabilities."""
    attacks = [pgd(), pgd(loss="cw_margin"), pgd(steps=11), pgd(steps=12)]
    as_shares = dataclasses.replace(HONEST, source="probabilities", lowest_output=0.0)
    as_shares = dataclasses.replace(as_shares, highest_output=1.0, saturated=50)
    blind = dataclasses.replace(HONEST, without_gradient=60)
    probes = dict(
        zip(
            (attack.name for attack in attacks),
            (as_shares, blind, as_shares, blind),
            strict=True,
        )
    )
    robust = {name: np.arange(1000) < 500 for name in ("natural", *probes)}
    report = RobustnessReport(
        accuracy=dict.fromkeys(robust, 0.5),
        robust=robust,
        worst_case=0.5,
        seconds={},
        threat_models={name: {"value_range": (0.0, 1.0)} for name in probes},
    )
    expected = [
        "^pgd10, pgd11: on 50 of 100 .* the probability of the true class",
        "^cw10, pgd12: on 60 of 100 .* exactly zero or not finite",
    ]
    assert_says(warnings_of(report, attacks, probes), *expected)
    reordered = warnings_of(report, attacks[::-1], probes)
    assert_says(reordered, *(re.sub(r"(\w+), (\w+):", r"\2, \1:", e) for e in expected))


def test_warnings_about_the_gradient_name_the_attacks_that_use_it():
    whole = AutoAttack(0.06, seed=0)
    stages = {"autoattack": {part.name: 0.4 for part in whole.parts()}}
    attacks = [pgd(), pgd(loss="cw_margin"), square(), whole]
    broken = [range(600)] * 4
    (blind,) = said(attacks, broken, stages=stages, without_gradient=50)
    assert blind.startswith("pgd10, cw10, autoattack: ")
    # AutoAttack has the margin's gradient, too.
    (saturated,) = said(attacks, broken, stages=stages, saturated=50)
    assert saturated.startswith("pgd10: ")
    assert said([square()], [range(600)], without_gradient=50, saturated=50) == []


@pytest.mark.parametrize(
    ("examples", "only_weak", "only_strong", "warned"),
    [
        # At least 3 examples, net.
        (100, 2, 0, False),
        (100, 3, 0, True),
        (100, 5, 3, False),
        # More than 1% of the examples, net.
        (1000, 10, 0, False),
        (1000, 11, 0, True),
        (1000, 21, 10, True),
        # More than chance: 21 net of 179 have a standard deviation of 13.4.
        (1000, 100, 79, False),
        (1000, 100, 70, True),
    ],
)
def test_how_clear_a_difference_must_be(examples, only_weak, only_strong, warned):
    half = examples // 2
    weak = range(half + only_weak)
    strong = [*range(half), *range(examples - only_strong, examples)]
    attacks = [square(), apgd(), apgd(loss="dlr")]
    found = said(attacks, [weak, strong, strong], examples)
    found = [warning for warning in found if "Only" not in warning]
    net = only_weak - only_strong
    expected = [f"^square.* breaks {net} examples more than apgd_ce and apgd_dlr, "]
    assert_says(found, *(expected if warned else []))


def test_against_one_loss_alone_10_percent_are_a_diagnosis():
    for alone in (apgd(), apgd(loss="dlr"), pgd(loss="cw_margin")):
        assert_says(
            said([alone, square()], [range(300), range(400)]),
            rf"^square broke 100 images that {alone.name} left \(0 the other way\)",
        )
        assert_says(
            said([alone, square()], [range(300), range(401)]),
            f"^square.* breaks 101 examples more than {alone.name}, .*loss='dlr'; if",
        )
    # One step on the same loss has no such excuse.
    assert_says(
        said([pgd(steps=1), pgd()], [range(311), range(300)]),
        "^pgd1, which makes one step, breaks 11 .* pgd10.* misleads attacks",
    )
    assert_says(
        said([pgd(steps=1), pgd(loss="cw_margin")], [range(311), range(300)]),
        "^pgd1 broke 11 images that cw10 left",
    )


def test_the_plain_fact_in_its_words():
    """The digits model of which 38 images were broken by Square alone: no masking."""
    pgd20, black_box = PGDAttack(0.1), SquareAttack(0.1)
    # Of 360, PGD leaves 120 (33.3%), Square 89 (24.7%), both 82.
    broken = [range(240), [*range(233), *range(240, 278)]]
    (fact,) = (
        warning
        for warning in said([pgd20, black_box], broken, examples=360)
        if not warning.startswith("Only")
    )
    assert fact == (
        "square broke 38 images that pgd20 left (7 the other way): accuracy under "
        "pgd20 is too high by 9 points; quote the worst case, 22.78%."
    )


def defaults(*names, epsilon=0.06):
    """Attacks as users make them: epsilon, and what gives the name."""
    made = {
        "fgsm": lambda: PGDAttack(epsilon, steps=1, random_start=False),
        "pgd1": lambda: PGDAttack(epsilon, steps=1),
        "pgd20": lambda: PGDAttack(epsilon),
        "pgd100": lambda: PGDAttack(epsilon, steps=100),
        "pgd20x10": lambda: PGDAttack(epsilon, restarts=10),
        "cw20": lambda: PGDAttack(epsilon, loss="cw_margin"),
        "apgd_ce": lambda: APGDAttack(epsilon),
        "apgd_ce_x5": lambda: APGDAttack(epsilon, restarts=5),
        "apgd_dlr": lambda: APGDAttack(epsilon, loss="dlr"),
        "apgd_t": lambda: APGDAttack(epsilon, loss="targeted_dlr"),
        "fab_t": lambda: FABAttack(epsilon),
        "fab_t_x5": lambda: FABAttack(epsilon, restarts=5),
        "fab": lambda: FABAttack(epsilon, targets=None),
        "square": lambda: SquareAttack(epsilon),
        "square_x5": lambda: SquareAttack(epsilon, restarts=5),
        "autoattack": lambda: AutoAttack(epsilon),
        "autoattack_plus": lambda: AutoAttack(epsilon, version="plus"),
        "autoattack_rand": lambda: AutoAttack(epsilon, version="rand"),
    }
    attacks = [made[name]() for name in names]
    assert [attack.name for attack in attacks] == list(names)
    return attacks


WHITE = ["pgd20", "pgd100", "pgd20x10", "cw20"]
WHITE += ["apgd_ce", "apgd_ce_x5", "apgd_dlr", "apgd_t"]
FAB = ["fab_t", "fab_t_x5", "fab"]
WHOLE = ["autoattack", "autoattack_plus", "autoattack_rand"]
BLACK = ["square", "square_x5"]
ONE_STEP = ["fgsm", "pgd1"]
# Those that climb the same loss as FGSM; and those that climb two.
CROSS_ENTROPY = {"pgd20", "pgd100", "pgd20x10", "apgd_ce", "apgd_ce_x5"}


@pytest.mark.parametrize("more", [11, 101])
@pytest.mark.parametrize("order", [1, -1])
def test_each_default_attack_that_beats_one_that_sees_more(order, more):
    """1.1% of the examples are a fact; 10.1%, or one loss or two, a diagnosis."""
    for weak in BLACK + ONE_STEP:
        for strong in WHITE + FAB + WHOLE:
            names = [weak, strong][::order]
            broken = {weak: range(300 + more), strong: range(300)}
            found = said(defaults(*names), [broken[name] for name in names])
            diagnosed = strong not in FAB and (
                more == 101
                or strong in WHOLE
                or (weak in ONE_STEP and strong in CROSS_ENTROPY)
            )
            assert_says(
                found,
                f"^{weak}, which .* breaks {more} examples more than {strong}, which"
                if diagnosed
                else f"^{weak} broke {more} images that {strong} left .* too high by",
            )
            # As it should be.
            broken = {weak: range(300), strong: range(300 + more)}
            assert said(defaults(*names), [broken[name] for name in names]) == []


@pytest.mark.parametrize("left", [[0.5, 0.45, 0.45, 0.44], [0.5, 0.45, 0.45, 0.438]])
def test_inside_the_default_ensemble(left):
    """It has two losses: 1% is enough. Less needs no word, the whole is the worst."""
    (whole,) = defaults("autoattack")
    names = [part.name for part in whole.parts()]
    stages = {"autoattack": dict(zip(names, left, strict=True))}
    found = said([whole], [range(round(1000 * (1 - left[-1])))], stages=stages)
    expected = ["^autoattack: square, which sees no gradient, breaks 12"]
    assert_says(found, *(expected if left[-1] == 0.438 else []))


@pytest.mark.parametrize(
    ("less", "more", "setting"),
    [
        (PGDAttack(0.06), PGDAttack(0.06, steps=100), "steps"),
        (*paper_attacks("cifar10")[:2], "steps"),
        (*paper_attacks("imagenet")[1:], "steps"),
        (PGDAttack(0.06), PGDAttack(0.06, restarts=10), "restarts"),
        (*paper_attacks("cifar10")[::3], "restarts"),
        (APGDAttack(0.06), APGDAttack(0.06, restarts=5), "restarts"),
        (FABAttack(0.06), FABAttack(0.06, restarts=5), "restarts"),
        (FABAttack(0.06), FABAttack(0.06, steps=200, name="fab_200"), "steps"),
        (SquareAttack(0.06), SquareAttack(0.06, restarts=5), "restarts"),
        (SquareAttack(0.06), SquareAttack(0.06, queries=10**4, name="more"), "queries"),
        *(
            (make(0.06), make(0.1, name="larger"), "epsilon")
            for make in (PGDAttack, APGDAttack, FABAttack, SquareAttack, AutoAttack)
        ),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_each_default_attack_whose_effort_finds_less(less, more, setting):
    found = said([less, more], [range(311), range(300)])
    assert_says(found, rf"^{more.name} \({setting}=.* breaks 11 examples fewer than ")


def named(expected, attacks):
    """A pattern for a warning about these attacks, by their names in their order."""
    return f"^{', '.join(attacks)}: {expected}"


@pytest.mark.parametrize(
    ("changes", "about", "expected"),
    [
        (
            {"saturated": 50},
            [*(n for n in ONE_STEP + WHITE if n in CROSS_ENTROPY | {*ONE_STEP})],
            "on 50 of 100 .* logits this large",
        ),
        (
            {
                "saturated": 50,
                "source": "probabilities",
                "lowest_output": 0.0,
                "highest_output": 1.0,
            },
            [*ONE_STEP, *WHITE, *FAB, *WHOLE],
            "on 50 of 100 .* probability of the true class saturates",
        ),
        (
            {"shares": True, "lowest_output": 0.0, "highest_output": 1.0},
            [*ONE_STEP, *WHITE, *FAB, *WHOLE, *BLACK],
            "the outputs are read as logits, but they lie between 0 and 1 ",
        ),
        (
            {"source": "probabilities"},
            [*ONE_STEP, *WHITE, *FAB, *WHOLE, *BLACK],
            "the outputs are read as probabilities, but they lie between -5 and 5",
        ),
        (
            {"without_gradient": 50},
            [*ONE_STEP, *WHITE, *FAB, *WHOLE],
            "on 50 of 100 .* exactly zero or not finite",
        ),
        (
            {"random": 128},
            [*ONE_STEP, *WHITE, *FAB, *WHOLE[:2], *BLACK],
            "the outputs for 128 of 128 .* images change",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_warnings_about_the_model_name_the_default_attacks_concerned(
    changes, about, expected
):
    names = [*ONE_STEP, *WHITE, *FAB, *WHOLE, *BLACK]
    attacks = defaults(*names)
    found = said(attacks, [range(500)] * len(attacks), **changes)
    assert_says(found, named(expected, about))


@pytest.mark.parametrize("name", [*ONE_STEP, *WHITE, *FAB, *WHOLE, *BLACK])
def test_warnings_about_each_default_attack(name):
    def found(epsilon=0.06, broken=500, examples=1000, **changes):
        attacks = defaults(name, epsilon=epsilon)
        return said(attacks, [range(broken)], examples, **changes)

    assert found() == []
    assert_says(found(epsilon=1.0), f"^{name}: .* epsilon=1 covers the whole")
    assert_says(found(epsilon=0.5), f"^{name}: .* epsilon=0.5 covers half")
    assert_says(found(epsilon=1e-4), f"^{name}: epsilon=0.0001 is less than a tenth")
    assert_says(found(lowest_pixel=0.5, highest_pixel=0.51), "^Pixels lie between")
    assert_says(found(changed_by_batch=50), "^The outputs for 50 of 64")
    assert_says(found(broken=50, examples=100), rf"^Only 100 .* {name} is known")
    assert_says(found(label_classes=1), "^All 1000 examples are of one class")


@pytest.mark.parametrize("step_size", [1e-3, 0.2])
def test_step_sizes_of_paper_attacks_on_another_scale(step_size):
    """2 / 255 for pixels in 0..255, or the reverse."""
    (attack,) = paper_attacks("cifar10")[:1]
    other = PGDAttack(**{**attack.get_config(), "step_size": step_size})
    assert_says(said([other], [range(500)]), f"^pgd20: .*{step_size:g}")


# Models that name one class, and data of one class.


@pytest.mark.parametrize(
    ("right", "changes", "expected"),
    [
        (
            100,
            {},
            r"^The model predicts class 3 for everything: .* 10.00%, is the share",
        ),
        # It gets another right, or not all of them: the images looked at were alike.
        (101, {}, None),
        (99, {}, None),
        (100, {"only_predicted": None}, None),
    ],
)
def test_a_model_of_one_class_has_no_masked_gradient(right, changes, expected):
    """Zero gradients, and Square's 100, are what the same numbers say of another."""
    attacks = defaults("pgd20", "square")
    wrong = range(right, 1000)
    broken = [wrong, wrong, range(1000)]
    settings = {"predicted_classes": 1, "only_predicted": 3, "labels_of_it": 100}
    found = said(attacks, broken, **{**settings, "without_gradient": 50, **changes})
    of_masking = ["^pgd20: on 50 of 100 .*BPDA", "^square.* br(oke|eaks) "]
    assert_says(found, *([expected] if expected else of_masking))


def constant(bias):
    """A model that dead units have left with the biases of its last layer."""
    model = keras.Sequential(
        [keras.Input(SHAPE), layers.Flatten(), layers.ReLU(), layers.Dense(4)]
    )
    model.set_weights([np.zeros((64, 4)), np.array(bias)])
    return model


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_constant_model_and_its_class():
    images, labels = blobs()
    share = np.mean(labels == 2)
    attacks = [pgd(), apgd(loss="dlr"), square(queries=10)]
    (warning,) = evaluation_warnings(
        constant([0.0, 0.1, 0.5, 0.2]), (images, labels), attacks
    )
    assert warning.startswith("The model predicts class 2 for everything")
    assert f"natural accuracy, {share:.2%}," in warning
    for word in ("learning rate", "warm", "replays"):
        assert word in warning
    for word in ("mislead", "BPDA", "SquareAttack"):
        assert word not in warning


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("examples", "warned"), [(9, False), (100, True)])
def test_the_first_examples_of_an_ordered_folder(undefended, examples, warned):
    model, (images, labels) = undefended
    order = np.argsort(labels, kind="stable")
    ordered = tf.data.Dataset.from_tensor_slices((images[order], labels[order]))
    assert (labels == 0).sum() >= 70
    of_one = ordered.batch(min(examples, 70)).take(1)
    report = evaluate_robustness(model, of_one, pgd(), verbose=0)
    found = [warning for warning in report.warnings if "of one class" in warning]
    assert len(found) == warned
    # The model names one class for these, and rightly.
    assert not [warning for warning in report.warnings if "for everything" in warning]


@pytest.mark.parametrize(
    ("weak", "strong"),
    [
        (square(norm="l2"), apgd(loss="dlr")),  # another norm
        (square(epsilon=0.07), apgd(loss="dlr")),  # a larger epsilon
        (square(), pgd(steps=9)),  # few steps
        (pgd(steps=1, restarts=9), pgd(loss="cw_margin")),  # nine attempts
        (pgd(steps=2), pgd(loss="cw_margin")),  # not weak
    ],
)
def test_attacks_that_cannot_be_compared(weak, strong):
    assert said([weak, strong], [range(500), range(300)]) == []


def test_together_strong_attacks_may_find_what_one_does_not():
    attacks = [square(), apgd(loss="dlr"), apgd()]
    assert said(attacks, [range(500), range(300), range(300, 500)]) == []
    assert len(said(attacks, [range(500), range(300), range(300, 480)])) == 1


def test_of_a_random_model_attacks_are_not_compared():
    attacks = [square(), apgd(gradient_samples=20), apgd(loss="dlr")]
    broken = [range(500), range(300), range(300)]
    assert_says(said(attacks, broken, random=128), "^square, apgd_dlr: the outputs")


@pytest.mark.parametrize(
    ("parts", "left", "warned"),
    [
        (["ce", "dlr", "square"], [0.6, 0.5, 0.489], True),
        (["ce", "dlr", "square"], [0.6, 0.5, 0.49], False),  # 1%
        (["ce", "square"], [0.5, 0.4], False),  # 10%
        (["ce", "square"], [0.5, 0.399], True),
        (["dlr", "square"], [0.5, 0.399], True),
        (["square", "dlr"], [0.5, 0.4], False),  # Square is first
        (["dlr", "ce"], [0.5, 0.4], False),  # a white box
    ],
)
def test_inside_an_ensemble(parts, left, warned):
    kinds = {"dlr": apgd(loss="dlr"), "ce": apgd(), "square": square()}
    attack = AutoAttack(0.06, attacks=[kinds[part] for part in parts], seed=0)
    names = [kinds[part].name for part in parts]
    stages = {"autoattack": dict(zip(names, left, strict=True))}
    found = said([attack], [range(round(1000 * (1 - left[-1])))], stages=stages)
    assert_says(found, *(["^autoattack: square, which sees no"] if warned else []))


@pytest.mark.parametrize(
    ("less", "more", "setting"),
    [
        (pgd(steps=20), pgd(steps=40), "steps"),
        (pgd(), pgd(restarts=4), "restarts"),
        (pgd(), pgd(epsilon=0.1, name="larger"), "epsilon"),
        (square(), square(queries=200, name="longer"), "queries"),
        (apgd(), apgd(epsilon=0.1, seed=9, name="larger"), "epsilon"),
    ],
)
def test_more_effort_that_finds_less(less, more, setting):
    for attacks in ([less, more], [more, less]):
        broken = {less.name: range(311), more.name: range(300)}
        assert_says(
            said(attacks, [broken[attack.name] for attack in attacks]),
            rf"^{more.name} \({setting}=.* breaks 11 examples fewer than {less.name} ",
        )
        # The other way round is as it should be.
        broken = {less.name: range(300), more.name: range(311)}
        assert said(attacks, [broken[attack.name] for attack in attacks]) == []


@pytest.mark.parametrize(
    "more",
    [
        pgd(steps=20, restarts=2),  # two settings differ
        pgd(steps=20, keep="last"),
        pgd(step_size=0.03, name="other"),  # no effort
        apgd(epsilon=0.1),  # another class
    ],
)
def test_efforts_that_cannot_be_compared(more):
    assert said([pgd(), more], [range(400), range(300)]) == []


@pytest.mark.parametrize(
    ("settings", "left", "expected"),
    [
        # 8 x 8 pixels: the farthest images are sqrt(64) = 8 apart in L2.
        ({"epsilon": 1.0}, 1, "covers the whole pixel range"),
        ({"epsilon": 1.0}, 0, None),
        ({"norm": "l2", "epsilon": 8.0}, 1, "covers the whole pixel range"),
        ({"norm": "l2", "epsilon": 7.9}, 260, None),
        # Over half the range, a quarter of the examples, and 1% more, may be left.
        ({"epsilon": 0.5}, 260, None),
        ({"epsilon": 0.5}, 280, "covers half the pixel range.*class, 25.00%"),
        ({"epsilon": 0.49}, 280, None),
        ({"norm": "l2", "epsilon": 4.0}, 280, "covers half the pixel range"),
        ({"norm": "l2", "epsilon": 3.9}, 280, None),
    ],
)
def test_what_a_large_ball_cannot_leave(settings, left, expected):
    found = said([pgd(**settings)], [range(1000 - left)])
    assert_says(found, *([expected] if expected else []))


def test_a_model_of_one_class_stands_in_every_ball():
    left = {"examples": 1000, "predicted_classes": 1, "most_frequent": 0.25}
    assert said([pgd(epsilon=1.0)], [range(750)], **left) == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # A tenth of a grey level is 1 / 2550 = 0.00039, a grey level 0.0039.
        ({"epsilon": 0.00038}, "less than a tenth of a grey level"),
        ({"epsilon": 0.0004}, None),
        ({"norm": "l2", "epsilon": 0.0038}, "less than one grey level of one pixel"),
        ({"norm": "l2", "epsilon": 0.004}, None),
        # 0.06 away in 10 steps.
        ({"step_size": 0.0059}, "^pgd10: 10 steps of 0.0059 lead 0.059 far"),
        ({"step_size": 0.006}, None),
        ({"step_size": 0.12}, None),
        ({"step_size": 0.13}, "^pgd10: step_size=0.13 .* 2 . epsilon=0.12"),
        ({"steps": 1, "random_start": False, "step_size": 0.06}, None),
        ({"norm": "l2", "step_size": 0.001}, "cannot reach the edge"),
    ],
)
def test_settings(settings, expected):
    assert_says(
        said([pgd(**settings)], [range(500)]), *([expected] if expected else [])
    )


def test_settings_of_the_parts_of_an_ensemble():
    whole = AutoAttack(0.06, attacks=[pgd(step_size=0.001)], seed=0)
    assert_says(
        said([whole], [range(500)], stages={"autoattack": {"pgd10": 0.5}}),
        "^autoattack, pgd10: 10 steps of 0.001 ",
    )


@pytest.mark.parametrize(("highest", "warned"), [(0.519, True), (0.521, False)])
def test_pixels_that_use_a_fiftieth_of_the_range(highest, warned):
    found = said([pgd()], [range(500)], lowest_pixel=0.5, highest_pixel=highest)
    assert_says(found, *(["^Pixels lie between 0.5 and 0.519, 1.9%"] if warned else []))


@pytest.mark.parametrize(
    ("examples", "broken", "expected"),
    [
        # Wilson's interval at one half is +- 0.98 / sqrt(n + 3.84).
        (381, 190, None),
        (
            380,
            190,
            r"^Only 380 examples .* known to \+-5 percentage points",
        ),
        (
            100,
            50,
            r"^Only 100 examples .* known to \+-10 percentage points",
        ),
        # At no mistakes its farther end is 3.84 / (n + 3.84) away.
        (73, 0, None),
        (72, 0, r"^Only 72 examples .* known to \+-5 percentage points"),
        # 4 of 20: from 0.2 to 0.416, and no more than 0.119 the other way.
        (20, 16, r"^Only 20 examples .* known to \+-22 percentage points"),
    ],
)
def test_too_few_examples(examples, broken, expected):
    found = said([pgd()], [range(broken)], examples)
    assert_says(found, *([expected] if expected else []))
