"""The pixel scale: what the user says, the wrapper's, the model's own, or (0, 1).

`EIGHT_BIT` divides by 255 itself. What it makes of images in 0..255 is what its twin
without that layer makes of the same images divided by 255: the right answers follow
from plain Keras.
"""

import keras
import matplotlib
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
    PGDAdversarialModel,
    PGDAttack,
    RobustnessEvaluation,
    RobustnessReport,
    SquareAttack,
    TRADESModel,
    evaluate_robustness,
    export_for_litert,
    export_for_serving,
    paper_attacks,
    pixel_scale,
    plotting,
    zoo,
)
from tests.conftest import compiled, from_logits, small_images

matplotlib.use("agg")

SHAPE = (6, 6, 1)
# Untrained models may name one class for all of a few images.
pytestmark = pytest.mark.filterwarnings("ignore:The model predicts class")

IMAGES, LABELS = small_images(16, SHAPE)
PIXELS = np.round(255 * IMAGES).astype("float32")
UNIT, BYTES, SIGNED = (0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)


def network(*first, shape=SHAPE):
    return keras.Sequential(
        [keras.Input(shape), *first, layers.Flatten(), layers.Dense(3)]
    )


def functional(first, shape=SHAPE):
    inputs = keras.Input(shape)
    outputs = layers.Dense(3)(layers.Flatten()(first(inputs)))
    return keras.Model(inputs, outputs)


class Subclassed(keras.Model):
    """Does not show in which order it calls its layers."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)
        self.rescaling = layers.Rescaling(1 / 255)

    def call(self, images):
        flat = keras.ops.reshape(self.rescaling(images), (-1, 36))
        return self.dense(flat)


def adapted(images):
    layer = layers.Normalization()
    layer.adapt(images)
    return layer


def augmentation():
    return keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)])


def efficient_net():
    return keras.applications.EfficientNetB0(
        weights=None, input_shape=(32, 32, 3), classes=3
    )


def mobile_net():
    return keras.applications.MobileNetV3Small(
        weights=None, input_shape=(32, 32, 3), classes=3
    )


def inside(build):
    """A network within another one, as in transfer learning."""
    backbone = build()
    inputs = keras.Input(backbone.input_shape[1:])
    return keras.Model(inputs, layers.Dense(3)(backbone(inputs, training=False)))


class WithPreprocessor:
    """Stands for a KerasHub preprocessor: `scale` and `offset` as ImageConverter's."""

    def __init__(self, scale, offset):
        self.image_converter = type("ImageConverter", (), {})()
        self.image_converter.scale, self.image_converter.offset = scale, offset


def task(scale, offset):
    """A KerasHub task: what is attacked is the network behind the preprocessor."""
    model = network()
    object.__setattr__(model, "preprocessor", WithPreprocessor(scale, offset))
    return model


# What is read off models: each is made by a function.
MODELS = {
    "nothing": (lambda: network(), None),
    "one that doubles": (lambda: network(layers.Rescaling(2.0)), None),
    "one that leaves pixels": (lambda: network(layers.Rescaling(1.0)), None),
    "an unusual factor": (lambda: network(layers.Rescaling(0.01)), None),
    "batch norm first": (
        lambda: network(layers.BatchNormalization(), layers.Rescaling(1 / 255)),
        None,
    ),
    "not adapted": (lambda: network(layers.Normalization()), None),
    "standardized before": (
        lambda: network(layers.Normalization(mean=[0.001], variance=[1.0])),
        None,
    ),
    "subclassed": (Subclassed, None),
    "not built": (
        lambda: keras.Sequential([layers.Rescaling(1 / 255), layers.Flatten()]),
        BYTES,
    ),
    "/ 255": (lambda: network(layers.Rescaling(1 / 255)), BYTES),
    "/ 256": (lambda: network(layers.Rescaling(1 / 256)), BYTES),
    "/ 127.5 - 1": (lambda: network(layers.Rescaling(1 / 127.5, offset=-1)), BYTES),
    "- 127.5": (lambda: network(layers.Rescaling(1.0, offset=-127.5)), BYTES),
    "16 bits": (lambda: network(layers.Rescaling(1 / 65535)), (0.0, 65535.0)),
    "* 2 - 1": (lambda: network(layers.Rescaling(2.0, -1.0)), UNIT),
    "* 255": (lambda: network(layers.Rescaling(255.0)), UNIT),
    "signed": (lambda: network(layers.Rescaling(0.5, 0.5)), SIGNED),
    "in two steps": (
        lambda: network(layers.Rescaling(2.0), layers.Rescaling(1 / 255, -1.0)),
        BYTES,
    ),
    "behind augmentation": (
        lambda: network(augmentation(), layers.Rescaling(1 / 255)),
        BYTES,
    ),
    "adapted to bytes": (lambda: network(adapted(PIXELS)), BYTES),
    "adapted to shares": (lambda: network(adapted(IMAGES)), UNIT),
    "mean of ImageNet, bytes": (
        lambda: network(
            layers.Normalization(mean=[123.7, 116.3, 103.5], variance=[58.0**2] * 3),
            shape=(6, 6, 3),
        ),
        BYTES,
    ),
    "an expression": (lambda: functional(lambda x: x / 255.0), BYTES),
    "preprocess_input": (
        lambda: functional(keras.applications.mobilenet_v2.preprocess_input),
        BYTES,
    ),
    "a number first": (lambda: functional(lambda x: (1 / 255) * x), BYTES),
    "subtracted from a number": (lambda: functional(lambda x: 255.0 - x), None),
    "two paths": (
        lambda: functional(lambda x: layers.Rescaling(1 / 255)(x) + x),
        None,
    ),
    "EfficientNet": (efficient_net, BYTES),
    "MobileNetV3": (mobile_net, BYTES),
    "EfficientNet inside": (lambda: inside(efficient_net), BYTES),
    "a task that divides": (lambda: task(1 / 255, None), UNIT),
    "a task of raw bytes": (lambda: task(None, None), BYTES),
    "a task of many scales": (lambda: task([0.01, 0.02, 0.03], None), None),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_a_model_shows(name):
    build, expected = MODELS[name]
    model = build()
    shown = pixel_scale.shown_by(model)
    assert (shown and shown.value_range) == expected
    assert pixel_scale.resolve(None, model) == (expected or UNIT)
    # Said again, it is never contradicted.
    if expected:
        assert pixel_scale.resolve(expected, model) == expected


@pytest.mark.parametrize("value_range", [UNIT, BYTES, (0.0, 16.0)])
@pytest.mark.parametrize(
    "build",
    [
        lambda **kwargs: zoo.small_cnn(classes=3, input_shape=(8, 8, 3), **kwargs),
        lambda **kwargs: zoo.preact_resnet18(width=8, **kwargs),
        lambda **kwargs: zoo.compact_resnet(width=8, **kwargs),
        lambda **kwargs: zoo.wide_resnet(8, 1, **kwargs),
    ],
    ids=["small_cnn", "preact_resnet18", "compact_resnet", "wide_resnet"],
)
def test_the_zoo_shows_the_range_it_was_built_for(build, value_range):
    model = build(value_range=value_range)
    assert pixel_scale.resolve(None, model) == value_range
    other = UNIT if value_range == BYTES else BYTES
    if value_range != (0.0, 16.0):
        with pytest.raises(ValueError, match="`value_range`"):
            pixel_scale.resolve(other, model)


def test_a_scale_is_read_again_from_a_file(tmp_path):
    network(layers.Rescaling(1 / 255)).save(tmp_path / "model.keras")
    functional(lambda x: x / 127.5 - 1.0).save(tmp_path / "functional.keras")
    for name in ("model", "functional"):
        model = keras.models.load_model(tmp_path / f"{name}.keras")
        assert pixel_scale.resolve(None, model) == BYTES


# What is said of a model, and who decides. A wrapper is given its range here.
DECISIONS = [
    # first layer, said, wrapper's, expected
    (None, None, None, UNIT),
    (None, BYTES, None, BYTES),
    (None, SIGNED, None, SIGNED),
    (None, None, BYTES, BYTES),
    (None, BYTES, BYTES, BYTES),
    (None, UNIT, BYTES, "trained"),
    (None, BYTES, UNIT, "trained"),
    ((1 / 255, 0.0), None, None, BYTES),
    ((1 / 255, 0.0), None, BYTES, BYTES),
    # As files of the first release have it, whose default it was.
    ((1 / 255, 0.0), None, UNIT, UNIT),
    ((1 / 255, 0.0), UNIT, None, "Rescaling"),
    ((1 / 255, 0.0), UNIT, BYTES, "trained"),
    ((1 / 255, 0.0), (0.0, 16.0), None, (0.0, 16.0)),  # a matter of taste
    ((1 / 255, 0.0), (0.0, 200.0), None, (0.0, 200.0)),
    ((1 / 127.5, -1.0), SIGNED, None, "Rescaling"),
    ((1 / 127.5, -1.0), (-128.0, 127.0), None, (-128.0, 127.0)),
    ((2.0, -1.0), BYTES, None, "Rescaling"),
    ((2.0, -1.0), SIGNED, None, SIGNED),
    ((255.0, 0.0), BYTES, None, "Rescaling"),
    ((2.0, 0.0), BYTES, None, BYTES),
]


@pytest.mark.parametrize(("rescaling", "said", "wrapped", "expected"), DECISIONS)
def test_who_decides(rescaling, said, wrapped, expected):
    model = network(*([] if rescaling is None else [layers.Rescaling(*rescaling)]))
    if wrapped is not None:
        model = FreeAdversarialModel(model, 0.1, value_range=wrapped)
    if isinstance(expected, tuple):
        assert pixel_scale.resolve(said, model) == expected
        return
    with pytest.raises(ValueError, match="`value_range`") as refused:
        pixel_scale.resolve(said, model)
    shown = wrapped or pixel_scale.resolve(None, model)
    message = str(refused.value)
    assert f"({said[0]:g}, {said[1]:g})" in message
    assert f"value_range=({shown[0]:g}, {shown[1]:g})" in message  # the remedy
    assert ("Rescaling" if expected == "Rescaling" else "training") in message


def test_a_mean_allows_wider_ranges_but_not_narrow_ones():
    """Pixels of 16 bits may have a mean of 200; pixels of [0, 1] have not."""
    microscope = network(layers.Normalization(mean=[200.0], variance=[100.0**2]))
    assert pixel_scale.resolve((0, 65535), microscope) == (0.0, 65535.0)
    with pytest.raises(ValueError, match="Normalization"):
        pixel_scale.resolve(UNIT, microscope)
    with pytest.raises(ValueError, match="Normalization"):
        pixel_scale.resolve(BYTES, network(adapted(IMAGES)))


# Every place that takes a range.


def eight_bit():
    """A classifier of images in 0..255, and its twin for the same divided by 255."""
    model, twin = network(layers.Rescaling(1 / 255)), network()
    weights = np.random.default_rng(0).normal(size=(36, 3)), np.zeros(3)
    model.set_weights(weights)
    twin.set_weights(weights)
    return model, twin


ATTACKS = {
    "pgd": lambda epsilon, **k: PGDAttack(epsilon, steps=3, seed=0, **k),
    "apgd": lambda epsilon, **k: APGDAttack(epsilon, steps=3, seed=0, **k),
    "fab": lambda epsilon, **k: FABAttack(epsilon, steps=3, seed=0, **k),
    "square": lambda epsilon, **k: SquareAttack(epsilon, queries=9, seed=0, **k),
    "autoattack": lambda epsilon, **k: AutoAttack(
        epsilon,
        attacks=[APGDAttack(epsilon, steps=2), SquareAttack(epsilon, queries=9)],
        seed=0,
        **k,
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_takes_the_models_scale(name):
    model, twin = eight_bit()
    attack = ATTACKS[name](51.0)
    found = np.asarray(attack(PIXELS, LABELS, model=model)) / 255
    expected = np.asarray(ATTACKS[name](0.2)(PIXELS / 255, LABELS, model=twin))
    # Rounding apart, it is the attack on the twin, pixel for pixel.
    assert np.isclose(found, expected, atol=1e-5).mean() > 0.98
    assert attack.value_range is None
    assert attack.get_config()["value_range"] is None
    with pytest.raises(ValueError, match="`epsilon`.*value_range=.0, 1"):
        attack(IMAGES, LABELS, model=twin)  # settings, not bound to the first model


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_refuses_what_the_model_contradicts(name):
    model, _ = eight_bit()
    with pytest.raises(ValueError, match="`value_range`.*Rescaling"):
        ATTACKS[name](0.1, value_range=(0, 1))(IMAGES, LABELS, model=model)


def test_an_attack_finds_the_scale_inside_a_graph():
    model = network(adapted(PIXELS))
    attack = PGDAttack(25.0, steps=1, random_start=False, from_logits=True)
    inside_graph = compiled(lambda x, y: attack(x, y, model=model), model)
    found = keras.ops.convert_to_numpy(inside_graph(PIXELS, LABELS))
    assert np.ptp(found - PIXELS) > 40


def evaluated(model, *attacks, data=(PIXELS, LABELS)):
    with pytest.warns(UserWarning, match="Only 16 examples"):
        return evaluate_robustness(model, data, list(attacks), verbose=0)


def test_an_evaluation_is_on_the_models_scale_and_records_it():
    model, twin = eight_bit()
    kinds = [ATTACKS["pgd"], ATTACKS["autoattack"]]
    report = evaluated(model, *(make(25.5) for make in kinds))
    expected = evaluated(
        twin, *(make(0.1) for make in kinds), data=(PIXELS / 255, LABELS)
    )
    for name, stands in expected.robust.items():
        assert (report.robust[name] == stands).mean() > 0.9
    again = RobustnessReport.from_json(report.to_json()).attacks()
    for settings, attack in zip(report.threat_models.values(), again, strict=True):
        assert settings["value_range"] == attack.value_range == BYTES
    repeated = evaluated(model, *again)
    for name, stands in report.robust.items():
        np.testing.assert_array_equal(stands, repeated.robust[name])


def test_an_evaluation_refuses_what_the_model_contradicts():
    model, _ = eight_bit()
    attack = PGDAttack(0.1, value_range=(0, 1))
    with pytest.raises(ValueError, match="`value_range`.*Rescaling"):
        evaluate_robustness(model, (IMAGES, LABELS), attack)
    several = [PGDAttack(25.0), PGDAttack(1.0, steps=1, value_range=(0, 16))]
    with pytest.raises(ValueError, match="`attacks`.*one `value_range`"):
        evaluate_robustness(model, (PIXELS, LABELS), several)
    for callback in (
        RobustnessEvaluation((IMAGES, LABELS), attack),
        CollapseGuard((IMAGES, LABELS), attack=attack),
    ):
        model.compile("sgd", from_logits())
        with pytest.raises(ValueError, match="`value_range`.*Rescaling"):
            model.fit(PIXELS, LABELS, callbacks=[callback], verbose=0)


def test_the_papers_attacks_are_scaled_to_the_pixels():
    first, *_ = paper_attacks("cifar10")
    assert (first.epsilon, first.step_size) == (8 / 255, 2 / 255)
    first, *_ = paper_attacks("cifar10", value_range=(0, 255))
    assert (first.epsilon, first.step_size) == pytest.approx((8, 2))
    assert first.value_range == BYTES


METHODS = [
    lambda model, **k: FreeAdversarialModel(model, replays=1, **k),
    lambda model, **k: PGDAdversarialModel(model, steps=1, **k),
    lambda model, **k: TRADESModel(model, steps=1, **k),
]


@pytest.mark.parametrize("method", METHODS, ids=["free", "pgd", "trades"])
def test_training_takes_the_models_scale(method, tmp_path):
    model = method(eight_bit()[0], epsilon=8)
    assert model.value_range == model.get_config()["value_range"] == BYTES
    model.compile("sgd", from_logits())
    guard = CollapseGuard((PIXELS, LABELS))
    model.fit(PIXELS, LABELS, callbacks=[guard], verbose=0)
    assert guard.best is not None
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").value_range == BYTES
    with pytest.raises(ValueError, match="`epsilon`.*value_range=.0, 1"):
        method(network(), epsilon=8)


@pytest.mark.parametrize("method", METHODS, ids=["free", "pgd", "trades"])
def test_training_refuses_what_the_model_contradicts(method, tmp_path):
    model = method(eight_bit()[0], epsilon=0.1, value_range=(0, 1))
    model.compile("sgd", from_logits())
    for train in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match="`value_range`.*Rescaling"):
            train(IMAGES, LABELS)
    # A file of the first release, trained so all the same, still tells what it can.
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.value_range == UNIT
    evaluated(loaded, PGDAttack(0.1, steps=1), data=(IMAGES, LABELS))


def test_the_scale_of_one_input_of_several():
    image, size = keras.Input(SHAPE, name="image"), keras.Input((1,), name="size")
    scaled = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    outputs = layers.Dense(3)(layers.Concatenate()([scaled, size]))
    model = keras.Model({"image": image, "size": size}, outputs)
    wrapper = FreeAdversarialModel(model, 8, perturbed_input="image")
    assert wrapper.value_range == BYTES


def served_probabilities(path):
    signature = tf.saved_model.load(path).signatures["serve_uint8"]
    return signature(images=tf.constant(PIXELS, tf.uint8))["probabilities"].numpy()


@pytest.mark.tensorflow_only
def test_a_served_model_answers_as_the_model_does(tmp_path):
    """The example of the issue: nothing is said of a plain model from a file."""
    eight_bit()[0].save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    expected = keras.ops.softmax(model.predict(PIXELS, verbose=0)).numpy()
    path = export_for_serving(model, tmp_path / "served")
    np.testing.assert_allclose(served_probabilities(path), expected, atol=1e-5)
    with pytest.raises(ValueError, match="`value_range`.*Rescaling"):
        export_for_serving(model, tmp_path / "served", value_range=(0, 1))


@pytest.mark.tensorflow_only
def test_a_file_for_litert_answers_as_the_model_does(tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    model, _ = eight_bit()
    path = export_for_litert(model, tmp_path / "model.tflite")
    run = interpreter.Interpreter(model_path=path).get_signature_runner()
    expected = keras.ops.softmax(model.predict(PIXELS, verbose=0)).numpy()
    found = run(images=PIXELS)["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="`value_range`.*Rescaling"):
        export_for_litert(model, tmp_path / "other.tflite", value_range=(0, 1))


# Each draws with an attack or an argument of this range.
PLOTS = {
    "adversarial_examples": lambda models, **k: plotting.plot_adversarial_examples(
        models, PIXELS[:2], LABELS[:2], PGDAttack(25.0, steps=1, **k)
    ),
    "large_epsilon": lambda models, **k: plotting.plot_large_epsilon(
        models, PIXELS[:2], LABELS[:2], PGDAttack(25.0, steps=1, targeted=True, **k)
    ),
    "input_gradients": lambda models, **k: plotting.plot_input_gradients(
        models, PIXELS[:2], LABELS[:2], **k
    ),
    "loss_surface": lambda models, **k: plotting.plot_loss_surface(
        models, PIXELS[0], LABELS[0], 25.0, points=3, **k
    ),
    "robustness_curve": lambda models, **k: plotting.plot_robustness_curve(
        models, (PIXELS, LABELS), [25.0], verbose=0, **k
    ),
    "attack_strength": lambda models, **k: plotting.plot_attack_strength(
        models, (PIXELS, LABELS), 25.0, steps=[1], restarts=[1], verbose=0, **k
    ),
}


@pytest.mark.filterwarnings("ignore:Only 16 examples")
@pytest.mark.parametrize("name", PLOTS)
def test_a_picture_is_on_the_models_scale(name):
    model, twin = eight_bit()
    figure = PLOTS[name]({"model": model})
    # Where it names the scale, it is the model's.
    texts = [t.get_text() for t in figure.findobj(matplotlib.text.Text)]
    assert not any("pixels in [0, 1]" in text for text in texts)
    if name in ("loss_surface", "robustness_curve", "attack_strength"):
        assert any("pixels in [0, 255]" in text for text in texts)
    with pytest.raises(ValueError, match=r"`models`.*one `value_range`|`epsilon`"):
        PLOTS[name]({"model": model, "twin": twin})
    with pytest.raises(ValueError, match="`value_range`|`epsilon`"):
        PLOTS[name]({"model": model}, value_range=(0, 1))


def test_a_curve_refuses_what_the_model_contradicts():
    with pytest.raises(ValueError, match="`value_range`.*Rescaling"):
        plotting.plot_robustness_curve(
            {"model": eight_bit()[0]}, (IMAGES, LABELS), [0.1], value_range=(0, 1)
        )
