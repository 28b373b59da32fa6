"""Every kind of output and of label, in every place that interprets predictions.

The networks are linear, z = W x + b, so that everything is known by hand: an attack of
radius epsilon in the maximum norm moves a difference of logits (w_s - w_y) x + c by
epsilon ||w_s - w_y||_1 and no further, as long as no pixel meets the pixel range.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_free_adv import (
    APGDAttack,
    AutoAttack,
    CollapseGuard,
    FABAttack,
    FreeAdversarialModel,
    PGDAttack,
    RobustnessReport,
    SquareAttack,
    TRADESModel,
    evaluate_robustness,
    export_for_litert,
    export_for_serving,
    plotting,
)
from keras_free_adv.label_losses import divergence
from keras_free_adv.predictions import predictions_of

EPSILON = 0.02
COUNT = 120
SHAPE = (4, 4, 1)
# Far enough from the ends of the pixel range.
IMAGES = np.random.default_rng(0).uniform(0.2, 0.8, (COUNT, *SHAPE)).astype("float32")

SOFTMAX_OF_NUMBERS = "sparse_categorical_crossentropy"
OF_LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BINARY = "binary_crossentropy"
BINARY_OF_LOGITS = keras.losses.BinaryCrossentropy(from_logits=True)


def weights_of(units):
    random = np.random.default_rng(units)
    kernel = random.normal(0, 1.5, (16, units)).astype("float32")
    # Each output is as often above zero as below.
    return kernel, -(0.5 * kernel.sum(0)).astype("float32")


def network(units, activation=None, loss=None, scale=1.0):
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Flatten(),
            layers.Dense(units, activation=activation),
        ]
    )
    kernel, bias = weights_of(units)
    model.layers[-1].set_weights([scale * kernel, scale * bias])
    if loss is not None:
        model.compile("sgd", loss)
    return model


def logits(units, images=IMAGES):
    kernel, bias = weights_of(units)
    return images.reshape(len(images), -1).astype("float64") @ kernel + bias


def flipped(values, share=0.25):
    """Some of the labels of a model that is always right, turned around."""
    return np.where(
        np.random.default_rng(1).uniform(size=values.shape) < share, 1 - values, values
    )


def classes_of(units):
    """The largest output; of one, whether it is above zero; a tenth of them wrong."""
    found = logits(units)
    right = (found[:, 0] > 0) if units == 1 else found.argmax(-1)
    classes = 2 if units == 1 else units
    wrong = np.random.default_rng(2).uniform(size=COUNT) < 0.1
    return np.where(wrong, (right + 1) % classes, right).astype("int64")


def several_of(units):
    return flipped((logits(units) > 0).astype("float32"), 0.04)


def robust_classes(units, epsilon):
    """By hand: no other class can overtake the true one."""
    kernel, _ = weights_of(units)
    found, truth = logits(units), classes_of(units)
    if units == 1:
        kernel = np.concatenate([np.zeros_like(kernel), kernel], 1)
        found = np.concatenate([np.zeros_like(found), found], 1)
    lead = found - np.take_along_axis(found, truth[:, None], 1)
    steps = np.abs(kernel[:, None, :] - kernel[:, :, None]).sum(0)[truth]
    lead = lead + epsilon * steps
    lead[np.arange(COUNT), truth] = -1
    return (lead < 0).all(-1)


def robust_labels(units, epsilon):
    """By hand: `[B, L]`, no logit can change its sign away from the label."""
    kernel, _ = weights_of(units)
    signs = 2 * several_of(units) - 1
    return signs * logits(units) - epsilon * np.abs(kernel).sum(0) > 0


def attack(**settings):
    return FABAttack(EPSILON, steps=10, seed=0, **settings)


ONE_CLASS = {
    "logits": (4, None, None),
    "logits, by the loss": (4, None, OF_LOGITS),
    "softmax": (4, "softmax", SOFTMAX_OF_NUMBERS),
    "softmax, not compiled": (4, "softmax", None),
    "sigmoids, one against the rest": (4, "sigmoid", BINARY),
    "logits, one against the rest": (4, None, BINARY_OF_LOGITS),
    "one sigmoid": (1, "sigmoid", BINARY),
    "one logit": (1, None, BINARY_OF_LOGITS),
}
SEVERAL = {
    "sigmoids": (4, "sigmoid", BINARY),
    "sigmoids, not compiled": (4, "sigmoid", None),
    "logits": (4, None, BINARY_OF_LOGITS),
    "logits, not compiled": (4, None, None),
}


def forms_of(numbers, classes):
    one_hot = np.eye(classes, dtype="float32")[numbers]
    return {
        "numbers": numbers,
        "a column": numbers[:, None],
        "floats": numbers.astype("float32"),
        "one-hot": one_hot,
        "mixed up": 0.8 * one_hot + 0.2 / classes,
    }


@pytest.mark.parametrize("outputs", ONE_CLASS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_accuracy_of_one_class_is_that_by_hand(outputs):
    units, activation, loss = ONE_CLASS[outputs]
    model = network(units, activation, loss)
    truth = classes_of(units)
    natural = robust_classes(units, 0.0).mean()
    under_attack = robust_classes(units, EPSILON).mean()
    assert 0.3 < under_attack < natural < 1.0
    forms = forms_of(truth, max(units, 2))
    if outputs not in ("softmax", "sigmoids, one against the rest", "one sigmoid"):
        forms = {form: forms[form] for form in ("numbers", "one-hot")}
    for form, labels in forms.items():
        exclusive = not (activation == "sigmoid" or loss is BINARY_OF_LOGITS)
        if units > 1 and not exclusive and form in ("one-hot", "mixed up"):
            # One class, or several labels of which one is there?
            with pytest.raises(ValueError, match="Argument `predicts` cannot be"):
                evaluate_robustness(model, (IMAGES, labels), attack(), verbose=0)
            settings = {"predicts": "class"}
        else:
            settings = {}
        report = evaluate_robustness(
            model, (IMAGES, labels), attack(**settings), verbose=0
        )
        assert report.accuracy["natural"] == pytest.approx(natural), form
        assert report.accuracy["fab_t"] == pytest.approx(under_attack), form
        assert report.label_accuracy == {}


@pytest.mark.parametrize("outputs", SEVERAL)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_accuracy_of_several_labels_is_that_by_hand(outputs):
    units, activation, loss = SEVERAL[outputs]
    model = network(units, activation, loss)
    labels = several_of(units)
    natural, robust = robust_labels(units, 0.0), robust_labels(units, EPSILON)
    assert 0.1 < robust.all(-1).mean() < natural.all(-1).mean() < 1.0
    for given in (labels, labels.astype(bool), 0.05 + 0.9 * labels):
        report = evaluate_robustness(model, (IMAGES, given), attack(), verbose=0)
        assert report.accuracy == pytest.approx(
            {"natural": natural.all(-1).mean(), "fab_t": robust.all(-1).mean()}
        )
        np.testing.assert_allclose(
            report.label_accuracy["natural"], natural.mean(0), atol=1e-6
        )
        np.testing.assert_allclose(
            report.label_accuracy["fab_t"], robust.mean(0), atol=1e-6
        )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_report_of_several_labels_says_so_and_is_read_again():
    report = evaluate_robustness(
        network(4, "sigmoid"), (IMAGES, several_of(4)), attack(), verbose=0
    )
    text = str(report)
    assert "exact match" in text
    assert "label accuracy" in text
    assert f"{100 * robust_labels(4, EPSILON).mean():.2f}%" in text
    again = RobustnessReport.from_json(report.to_json())
    assert again.label_accuracy == report.label_accuracy
    assert report.threat_models["fab_t"]["kind"] == "labels"
    (repeated,) = again.attacks()
    asked = {**attack().get_config(), "value_range": (0.0, 1.0)}  # as it was found
    assert repeated.get_config() == asked


@pytest.mark.parametrize(
    "made",
    [
        lambda: PGDAttack(EPSILON, steps=10, loss="cw_margin", seed=0),
        lambda: APGDAttack(EPSILON, steps=20, loss="targeted_dlr", seed=0),
        lambda: FABAttack(EPSILON, steps=10, targets=None, seed=0),
        lambda: AutoAttack(
            EPSILON,
            attacks=[
                APGDAttack(EPSILON, steps=10),
                FABAttack(EPSILON, steps=10),
                SquareAttack(EPSILON, queries=20),
            ],
            seed=0,
        ),
    ],
    ids=["pgd", "apgd", "fab", "autoattack"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_attacks_on_several_labels_stay_in_the_ball_and_break_what_can_be(made):
    labels, robust = several_of(4), robust_labels(4, EPSILON).all(-1)
    found = np.asarray(made()(IMAGES, labels, model=network(4, "sigmoid")))
    assert np.abs(found - IMAGES).max() <= EPSILON + 1e-6
    right = ((logits(4, found) > 0) == labels).all(-1)
    # Nothing that cannot be broken is, and nearly all else.
    assert right[robust].all()
    assert right.mean() <= robust.mean() + 0.03


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gradients_of_several_sigmoids_are_those_of_their_inputs():
    """The sigmoids of logits eight times as large are 0 and 1 in float32."""
    attack = PGDAttack(EPSILON, steps=10, seed=0)
    labels = classes_of(4)
    sure = network(4, "sigmoid", BINARY, scale=8.0)
    plain = network(4, scale=8.0)
    found = [
        evaluate_robustness(model, (IMAGES, labels), attack, verbose=0)
        for model in (sure, plain)
    ]
    np.testing.assert_array_equal(found[0].robust["pgd10"], found[1].robust["pgd10"])
    assert found[0].threat_models["pgd10"]["logits"] == "sigmoid_input"


def test_loss_of_several_labels_is_the_sum_of_the_binary_cross_entropies():
    view = predictions_of(network(4, "sigmoid"), IMAGES, several_of(4))
    labels = several_of(4)
    shares = 1 / (1 + np.exp(-logits(4)))
    by_hand = -(labels * np.log(shares) + (1 - labels) * np.log(1 - shares)).sum(-1)
    found = view.losses.cross_entropy(labels, logits(4).astype("float32"))
    np.testing.assert_allclose(found, by_hand, rtol=1e-4)


def test_divergence_of_several_labels_is_the_sum_of_those_of_bernoulli():
    one, other = np.float32([[0.5, -2.0, 40.0]]), np.float32([[-1.0, -2.0, 30.0]])
    p, q = (1 / (1 + np.exp(-z.astype("float64"))) for z in (one, other))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    by_hand = np.nan_to_num(terms).sum(-1)
    np.testing.assert_allclose(divergence(one, other), by_hand, atol=1e-6)


@pytest.mark.parametrize(
    ("attacks", "doubted"),
    [
        (lambda: [PGDAttack(EPSILON, steps=5, seed=0)], True),
        (lambda: [PGDAttack(EPSILON, steps=5, seed=0), attack()], False),
        (lambda: [PGDAttack(EPSILON, steps=5, loss="cw_margin", seed=0)], False),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_loss_that_adds_labels_up_overestimates_exact_match(attacks, doubted):
    report = evaluate_robustness(
        network(4, "sigmoid"), (IMAGES, several_of(4)), attacks(), verbose=0
    )
    said = [doubt for doubt in report.warnings if "sum over the labels" in doubt]
    assert bool(said) == doubted
    if doubted:  # and it is true
        assert report.accuracy["pgd5"] > robust_labels(4, EPSILON).all(-1).mean()


class TestRefusals:
    """Where outputs, loss and labels leave doubt, the argument that settles it."""

    @pytest.mark.parametrize(
        ("model", "labels", "named"),
        [
            (lambda: network(4, "softmax"), several_of(4), "predicts='labels'"),
            (lambda: network(4, None, OF_LOGITS), several_of(4), "predicts='labels'"),
            (lambda: network(1, None, "mse"), classes_of(1), "predicts='class'"),
            (lambda: network(4, None, "mse"), classes_of(4), "predicts='class'"),
            (lambda: network(4), classes_of(4) + 0.4, "whole class numbers"),
            (lambda: network(4), 2 * np.eye(4)[classes_of(4)], "predicts='class'"),
            (lambda: network(4, "sigmoid"), 2 * several_of(4) - 1, "predicts"),
            (lambda: network(4, "hard_sigmoid"), classes_of(4), "from_logits=False"),
            (lambda: network(1, "hard_sigmoid"), classes_of(1), "from_logits=False"),
        ],
    )
    def test_of_an_attack_and_an_evaluation(self, model, labels, named):
        model = model()
        for refused in (
            lambda: PGDAttack(EPSILON, steps=1)(IMAGES, labels, model=model),
            lambda: evaluate_robustness(
                model, (IMAGES, labels), PGDAttack(EPSILON, steps=1), verbose=0
            ),
            lambda: plotting.plot_adversarial_examples(
                model, IMAGES[:4], labels[:4], PGDAttack(EPSILON, steps=1)
            ),
        ):
            with pytest.raises(ValueError, match=named):
                refused()

    def test_of_labels_that_a_softmax_cannot_predict(self):
        attack = PGDAttack(EPSILON, steps=1, predicts="labels")
        with pytest.raises(ValueError, match="Argument `predicts` must be 'class'"):
            attack(IMAGES, several_of(4), model=network(4, "softmax"))

    def test_of_maps(self):
        model = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(3, 1)])
        with pytest.raises(ValueError, match="one output of shape"):
            PGDAttack(EPSILON, steps=1)(IMAGES, classes_of(3), model=model)

    @pytest.mark.parametrize("labels", [classes_of(4), classes_of(4)[:, None]])
    @pytest.mark.parametrize(
        "loss", [keras.losses.MeanSquaredError, keras.losses.Hinge]
    )
    def test_of_a_loss_that_spreads_a_label(self, loss, labels):
        attack = PGDAttack(EPSILON, steps=1, loss=loss())
        with pytest.raises(ValueError, match="Argument `loss` must fit the labels"):
            attack(IMAGES, labels, model=network(4))

    def test_none_of_a_loss_that_fits(self):
        one_hot = np.eye(4, dtype="float32")[classes_of(4)]
        for loss, labels in (
            (OF_LOGITS, classes_of(4)),
            (OF_LOGITS, classes_of(4)[:, None]),
            (keras.losses.MeanSquaredError(), one_hot),
        ):
            attack = PGDAttack(EPSILON, steps=1, loss=loss)
            assert attack(IMAGES, labels, model=network(4)).shape == IMAGES.shape


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_smoothed_labels_of_two_classes_are_those_that_are_meant():
    model, truth = network(1, "sigmoid"), classes_of(1)
    smoothed = np.where(truth == 1, 0.95, 0.05)
    found = [
        evaluate_robustness(model, (IMAGES, labels), attack(), verbose=0).accuracy
        for labels in (truth, smoothed, smoothed[:, None])
    ]
    assert found[1] == found[0]
    assert found[2] == found[0]


@pytest.mark.parametrize("kind", ["class", "labels"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_guard_logs_what_is_right_under_attack(kind):
    labels = several_of(4) if kind == "labels" else classes_of(4)
    by_hand = {
        "labels": robust_labels(4, EPSILON).all(-1).mean(),
        "class": robust_classes(4, EPSILON).mean(),
    }[kind]
    inside = network(4, "sigmoid")
    model = FreeAdversarialModel(inside, EPSILON, replays=1)
    model.compile(keras.optimizers.SGD(0.0), BINARY)
    guard = CollapseGuard((IMAGES, labels), attack=attack())
    rows = several_of(4)
    history = model.fit(IMAGES, rows, epochs=1, callbacks=[guard], verbose=0)
    assert history.history["val_guard_accuracy"] == [pytest.approx(by_hand)]


def softmax(z):
    return np.exp(z - z.max(-1, keepdims=True)) / np.exp(
        z - z.max(-1, keepdims=True)
    ).sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


SERVED = {
    "logits": (4, None, None, {}, softmax),
    "softmax": (4, "softmax", None, {}, softmax),
    "sigmoids": (4, "sigmoid", BINARY, {}, sigmoid),
    "sigmoids, not compiled": (4, "sigmoid", None, {}, sigmoid),
    "logits of labels, by the loss": (4, None, BINARY_OF_LOGITS, {}, sigmoid),
    "logits of labels, said": (4, None, None, {"predicts": "labels"}, sigmoid),
    "one sigmoid": (1, "sigmoid", None, {}, sigmoid),
    "one logit": (1, None, BINARY_OF_LOGITS, {}, sigmoid),
}


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("outputs", SERVED)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_is_served_is_what_the_model_predicts(outputs, wrapped, tmp_path):
    units, activation, loss, settings, by_hand = SERVED[outputs]
    model = network(units, activation, None if wrapped else loss)
    if wrapped:
        model = FreeAdversarialModel(model, EPSILON)
        if loss is not None:
            model.compile("sgd", loss)
    path = export_for_serving(model, tmp_path / "served", **settings)
    answer = tf.saved_model.load(path).signatures["serving_default"]
    found = answer(images=tf.constant(IMAGES[:5]))["probabilities"].numpy()
    expected = by_hand(logits(units, IMAGES[:5]))
    if units == 1:
        expected = np.concatenate([1 - expected, expected], -1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("outputs", ["softmax", "sigmoids", "logits of labels, said"])
def test_what_litert_answers_is_what_the_model_predicts(outputs, tmp_path):
    interpreter = pytest.importorskip(
        "ai_edge_litert.interpreter", reason="the extra `litert` is not installed"
    )
    units, activation, loss, settings, by_hand = SERVED[outputs]
    model = network(units, activation, loss)
    path = export_for_litert(model, tmp_path / "model.tflite", **settings)
    run = interpreter.Interpreter(model_path=path).get_signature_runner()
    found = run(images=IMAGES[:2])["probabilities"]
    np.testing.assert_allclose(found, by_hand(logits(units, IMAGES[:2])), atol=1e-3)


@pytest.mark.parametrize("activation", ["relu", None])
def test_trades_of_numbers_is_refused(activation):
    model = TRADESModel(network(1, activation), EPSILON, steps=1)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    with pytest.raises(ValueError, match="must be a classifier"):
        model.train_on_batch(IMAGES[:1], classes_of(1)[:1, None])


@pytest.mark.parametrize(
    "picture",
    [
        lambda model, labels: plotting.plot_adversarial_examples(
            model, IMAGES[:3], labels[:3], PGDAttack(EPSILON, steps=2)
        ),
        lambda model, labels: plotting.plot_input_gradients(
            {"model": model}, IMAGES[:3], labels[:3]
        ),
        lambda model, labels: plotting.plot_loss_surface(
            {"model": model}, IMAGES[0], np.float32([1, 1, 0, 1]), EPSILON, points=3
        ),
    ],
    ids=["adversarial examples", "input gradients", "loss surface"],
)
def test_pictures_of_several_labels(picture):
    labels = several_of(4)
    figure = picture(network(4, "sigmoid"), labels)
    said = " ".join(
        [axis.get_title() + axis.get_ylabel() for axis in figure.axes]
    ).replace("\n", " ")
    there = ", ".join(str(number) for number in np.flatnonzero(labels[0])) or "none"
    assert there in said or "loss" in str(figure.axes[-1].get_ylabel())


def test_predictions_are_told_apart_where_they_are_cached():
    attack, model = PGDAttack(EPSILON, steps=1, seed=0), network(4, "sigmoid")
    kinds = [
        attack.view_of(model, IMAGES, labels).kind
        for labels in (classes_of(4), several_of(4), classes_of(4))
    ]
    assert kinds == ["class", "labels", "class"]
