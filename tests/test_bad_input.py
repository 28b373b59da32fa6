"""Mistakes users make: each is refused before any training step, with a remedy.

Every entry gives the call, and what the message must name: the argument, what came,
and what to do.
"""

import re
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from keras import layers, ops

from keras_free_adv import (
    APGDAttack,
    AutoAttack,
    BackupAndRestore,
    CollapseGuard,
    FABAttack,
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    RobustnessEvaluation,
    SquareAttack,
    backends,
    datasets,
    evaluate_robustness,
    export_for_litert,
    export_for_serving,
    paper_attacks,
    replay,
    zoo,
)
from tests.conftest import from_logits, small_images, small_network

IMAGES, LABELS = small_images(16)
LIST = [PGDAttack(0.1)]


@dataclass
class WithPreprocessor:
    """Stands for a KerasHub task: a Keras model with a preprocessor attached."""

    preprocessor: Any


class OwnStep(keras.Model):
    def train_step(self, data):
        return {}


class OwnLoss(keras.Model):
    def compute_loss(self, *args, **kwargs):
        return 0.0


def overriding(method):
    """A model whose class has a method of its own."""
    own = {method: lambda self, *args, **kwargs: None}
    return type("Own", (keras.Model,), own)()


def task_with_preprocessor():
    network = small_network()
    object.__setattr__(network, "preprocessor", WithPreprocessor(1))
    return network


def wrapped(epsilon=0.1, network=None, **kwargs):
    return FreeAdversarialModel(network or small_network(), epsilon, **kwargs)


def compiled(model=None, loss=None, **kwargs):
    model = model or wrapped(replays=1)
    model.compile("sgd", loss or from_logits(), **kwargs)
    return model


def takes_8_bit_pixels():
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def dense(shape):
    return keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(3)])


def vectors():
    return keras.Sequential([keras.Input((5,)), layers.Dense(3)])


def one_batch(**kwargs):
    return compiled().train_on_batch(IMAGES, LABELS, **kwargs)


def fit(x=IMAGES, y=LABELS, model=None, loss=None, **kwargs):
    model = compiled(model, loss)
    updates = model.optimizer.iterations
    try:
        model.fit(x, y, verbose=0, **kwargs)
    finally:
        assert int(updates) == 0, "an update was made"


def dataset(*parts, batch=8):
    data = tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])
    return data.batch(batch) if batch else data


class NoLabels(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return IMAGES[:8]


def without_gradient():
    inputs = keras.Input((6, 6, 1))
    x = ops.cast(ops.cast(inputs, "int32"), "float32")
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def two_inputs():
    image, extra = keras.Input((6, 6, 1), name="image"), keras.Input((2,), name="extra")
    joined = layers.Concatenate()([layers.Flatten()(image), extra])
    return keras.Model({"image": image, "extra": extra}, layers.Dense(3)(joined))


def attack(images=IMAGES, labels=LABELS, model="default", **settings):
    model = small_network() if model == "default" else model
    kwargs = {} if model is None else {"model": model}
    return PGDAttack(0.1, **settings)(images, labels, **kwargs)


def evaluate(data=(IMAGES, LABELS), attacks=LIST, **kwargs):
    return evaluate_robustness(small_network(), data, attacks, verbose=0, **kwargs)


def guard(data=(IMAGES, LABELS), **kwargs):
    return CollapseGuard(data, **kwargs)


class OneNumber(keras.losses.Loss):
    """A loss whose `call` leaves nothing of the examples."""

    def call(self, y_true, y_pred):
        return keras.ops.mean(y_pred)


def flat_model():
    network = keras.Sequential([keras.Input((36,)), layers.Dense(3)])
    return compiled(FreeAdversarialModel(network, 0.1, replays=1))


class Items(keras.utils.PyDataset):
    def __init__(self, *items):
        super().__init__()
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def sparse():
    return tf.sparse.from_dense(IMAGES)


def ragged():
    return tf.ragged.stack([IMAGES[i, : 3 + i % 3] for i in range(16)])


def of_two_sizes(*sizes):
    """A dataset whose minibatches have images of two sizes."""
    sizes = sizes or (6, 8)
    spec = (tf.TensorSpec((None, None, None, 1)), tf.TensorSpec((None,), tf.int64))
    return tf.data.Dataset.from_generator(
        lambda: ((np.full((8, s, s, 1), 0.5, "float32"), LABELS[:8]) for s in sizes),
        output_signature=spec,
    )


def of_any_size():
    network = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    return wrapped(network=network, replays=1)


MINIBATCHES = [(IMAGES[:8], LABELS[:8]), (IMAGES[8:], LABELS[8:])]
OF_TWO_SIZES = [IMAGES[0], np.zeros((8, 8, 1), "float32"), *IMAGES[2:]]
# Edges between black and white, enlarged: from -0.12 to 1.12.
OVERSHOOT = tf.image.resize(
    np.float32(IMAGES[:, :3, :3] > 0.5), (6, 6), method="bicubic"
).numpy()
WITH_NAN = np.where(np.arange(16)[:, None, None, None] == 3, np.nan, IMAGES)

MISTAKES = {
    # The model.
    "epsilon negative": (lambda: wrapped(-0.1), "`epsilon`.*above zero.*-0.1.*8 / 255"),
    "epsilon zero": (lambda: wrapped(0), "`epsilon`.*above zero.*epsilon=0"),
    "epsilon NaN": (lambda: wrapped(float("nan")), "`epsilon`.*finite.*nan"),
    "epsilon infinite": (lambda: wrapped(float("inf")), "`epsilon`.*finite.*inf"),
    "epsilon text": (lambda: wrapped("8/255"), "`epsilon`.*number.*'8/255'.*str"),
    "epsilon on 0-255": (lambda: wrapped(8), "`epsilon`.*width.*epsilon=8.*8 / 255"),
    "replays zero": (lambda: wrapped(replays=0), "`replays`.*1 or more.*replays=0"),
    "replays 2.5": (lambda: wrapped(replays=2.5), "`replays`.*whole.*replays=2.5"),
    "replays True": (lambda: wrapped(replays=True), "`replays`.*whole.*True"),
    "step_size zero": (lambda: wrapped(step_size=0), "`step_size`.*above.*step_size=0"),
    "unknown norm": (lambda: wrapped(norm="l1"), r"`norm`.*\['linf', 'l2'\].*'l1'"),
    "range reversed": (
        lambda: wrapped(value_range=(1, 0)),
        r"`value_range`.*low below high.*\(1, 0\)",
    ),
    "range a number": (
        lambda: wrapped(value_range=255),
        r"`value_range`.*pair.*value_range=255",
    ),
    "model a layer": (
        lambda: FreeAdversarialModel(layers.Dense(3), 0.1),
        "`model`.*keras.Model.*Dense.*Sequential",
    ),
    "model a class": (
        lambda: FreeAdversarialModel(keras.Model, 0.1),
        "`model`.*must be a keras.Model",
    ),
    "own train_step": (
        lambda: wrapped(network=OwnStep()),
        "`model`.*`train_step`.*OwnStep.*pass the network inside",
    ),
    **{
        f"own {method}": (
            lambda method=method: wrapped(network=overriding(method)),
            rf"`model`.*`{method}`.*Own\.{method}.*Received: Own\. {remedy}",
        )
        for method, remedy in {
            "compute_metrics": "Move",
            "get_metrics_result": "Move",
            "reset_metrics": "Move",
            "fit": "Move what it does into a callback",
            "compile": "Pass the network inside",
            "evaluate": "Pass the network inside",
            "test_step": "Move",
            "train_on_batch": "Pass the network inside",
            "test_on_batch": "Pass the network inside",
            "make_train_function": "Move",
            "make_test_function": "Move",
            "make_predict_function": "Override `predict_step`",
        }.items()
    },
    "an HDF5 file": (
        lambda: wrapped().save("model.h5"),
        r"`filepath`.*'.keras'.*Received: filepath='model.h5'.*model.model.save",
    ),
    "own compute_loss": (
        lambda: wrapped(network=OwnLoss()),
        "`model`.*`compute_loss`.*OwnLoss",
    ),
    "wrapped twice": (
        lambda: wrapped(network=wrapped()),
        "`model`.*`train_step`.*FreeAdversarialModel",
    ),
    "preprocessor attached": (
        lambda: wrapped(network=task_with_preprocessor()),
        "`model`.*preprocessor attached.*preprocessor=None",
    ),
    "integer input": (
        lambda: wrapped(
            network=keras.Sequential(
                [keras.Input((4,), dtype="int32"), layers.Dense(3)]
            )
        ),
        "`model`.*floats.*int32.*float32",
    ),
    "several inputs, none named": (
        lambda: wrapped(network=two_inputs()),
        "`perturbed_input`.*several.*perturbed_input=None",
    ),
    "perturbed_input unknown": (
        lambda: wrapped(network=two_inputs(), perturbed_input="pixels"),
        "`perturbed_input`.*image.*'pixels'",
    ),
    "steps zero": (
        lambda: PGDAdversarialModel(small_network(), 0.1, steps=0),
        "`steps`.*1 or more.*steps=0",
    ),
    "random_start text": (
        lambda: PGDAdversarialModel(small_network(), 0.1, random_start="yes"),
        "`random_start`.*True or False.*'yes'",
    ),
    # The data of `fit`.
    "not compiled": (
        lambda: wrapped().fit(IMAGES, LABELS),
        r"compiled before `fit`.*model.compile\(",
    ),
    "not compiled, one batch": (
        lambda: wrapped().train_on_batch(IMAGES, LABELS),
        r"compiled before `train_on_batch`.*model.compile\(",
    ),
    "one batch, weights that are NaN": (
        lambda: one_batch(sample_weight=np.full(16, np.nan)),
        "`sample_weight`.*finite.*16 of 16",
    ),
    "one batch, too few weights": (
        lambda: one_batch(sample_weight=np.ones(3)),
        r"`sample_weight`.*each example.*\(3,\) for 16",
    ),
    "a complex epsilon": (
        lambda: wrapped(np.complex64(0.1 + 2j)),
        "`epsilon`.*finite number.*complex64",
    ),
    "a text in an array as epsilon": (
        lambda: wrapped(np.array("0.1")),
        "`epsilon`.*finite number",
    ),
    "a duration as replays": (
        lambda: wrapped(replays=np.timedelta64(2)),
        "`replays`.*whole number",
    ),
    "a set as value_range": (
        lambda: PGDAttack(0.1, value_range={0, 1}),
        r"`value_range`.*pair.*\{0, 1\}",
    ),
    # Exports; the folder is never made.
    "export of no model": (
        lambda: export_for_serving("model.keras", "never"),
        "`model`.*keras.Model.*'model.keras'.*str",
    ),
    "export of vectors": (
        lambda: export_for_serving(vectors(), "never"),
        r"`model`.*\(batch, height, width, channels\).*\(None, 5\)",
    ),
    "export to a number": (
        lambda: export_for_serving(small_network(), 3),
        "`path`.*path=3",
    ),
    "export of version 0": (
        lambda: export_for_serving(small_network(), "never", version=0),
        "`version`.*1 or more.*version=0",
    ),
    "export with too few names": (
        lambda: export_for_serving(small_network(), "never", class_names=["a", "b"]),
        "`class_names`.*3 strings.*'b'",
    ),
    "export with one text as names": (
        lambda: export_for_serving(small_network(), "never", class_names="abc"),
        "`class_names`.*3 strings.*'abc'",
    ),
    "export with names in no order": (
        lambda: export_for_serving(
            small_network(), "never", class_names={"a", "b", "c"}
        ),
        "`class_names`.*in the order",
    ),
    "export with a name of two lines": (
        lambda: export_for_serving(
            small_network(), "never", class_names=["a", "b", "c\u2028d"]
        ),
        "`class_names`.*one line",
    ),
    "export to nowhere": (
        lambda: export_for_serving(small_network(), ""),
        "`path`.*folder of all versions",
    ),
    "export of a version beyond 64 bits": (
        lambda: export_for_serving(small_network(), "never", version=2**63),
        "`version`",
    ),
    "export with a recipe that JSON cannot hold": (
        lambda: export_for_serving(
            small_network(), "never", recipe={"learning_rate": float("nan")}
        ),
        "`recipe`.*JSON",
    ),
    "export with numbers as names": (
        lambda: export_for_serving(small_network(), "never", class_names=[1, 2, 3]),
        "`class_names`.*3 strings",
    ),
    "export for another image size": (
        lambda: export_for_serving(small_network(), "never", image_size=7),
        r"`image_size`.*image_size=7.*\(6, 6, 1\)",
    ),
    "export with another pixel range": (
        lambda: export_for_serving(wrapped(), "never", value_range=(0, 255)),
        r"`value_range`.*trained with.*\(0, 255\)",
    ),
    "export with a file name as report": (
        lambda: export_for_serving(small_network(), "never", report="report.json"),
        "`report`.*from_json.*str",
    ),
    "export with a list as recipe": (
        lambda: export_for_serving(small_network(), "never", recipe=["free"]),
        "`recipe`.*dict.*'free'",
    ),
    "export with objects in the recipe": (
        lambda: export_for_serving(small_network(), "never", recipe={"a": {1}}),
        "`recipe`.*JSON.*set",
    ),
    "export with from_logits text": (
        lambda: export_for_serving(small_network(), "never", from_logits="yes"),
        "`from_logits`.*'yes'",
    ),
    "litert export with another ending": (
        lambda: export_for_litert(small_network(), "never/model.keras"),
        "`path`.*'.tflite'.*model.keras",
    ),
    "0-255 images": (
        lambda: fit(IMAGES * 255),
        r"`x`.*`value_range`.*\(0, 1\).*value_range=\(0, 255\)",
    ),
    "0-255 images in a dataset": (
        lambda: fit(dataset(IMAGES * 255, LABELS), None),
        r"`x`.*`value_range`.*divide the images by 255",
    ),
    "NaN pixels": (lambda: fit(WITH_NAN), "`x`.*finite.*NaN.*isfinite"),
    "NaN one-hot labels": (
        lambda: fit(y=np.eye(3)[LABELS] * np.nan, loss="categorical_crossentropy"),
        "`y` must be finite.*16 of 16 examples, the first at 0",
    ),
    "an infinite sample weight": (
        lambda: fit(sample_weight=np.where(np.arange(16) == 5, np.inf, 1.0)),
        "`sample_weight` must be finite.*1 of 16 examples, the first at 5",
    ),
    "text images": (
        lambda: fit(np.array(["a cat", "a dog"]), np.array([0, 1])),
        "`x`.*numbers.*dtype <U5",
    ),
    "a single image": (
        lambda: fit(IMAGES[0, :, :, 0], np.zeros(6)),
        r"`x`.*shape of the model's input.*\(6, 6\)",
    ),
    "flat images": (
        lambda: fit(IMAGES.reshape(16, -1)),
        r"`x`.*shape of the model's input, \(None, 6, 6, 1\).*\(16, 36\)",
    ),
    "images that were resized": (
        lambda: fit(OVERSHOOT),
        r"`x`.*`value_range`.*outside.*clip the images.*dataset.map\(lambda x, y: "
        r"\(tf.clip_by_value\(x, 0, 1\), y\)\).*np.clip",
    ),
    "images of 8 bits that were resized, in a dataset": (
        lambda: fit(
            dataset(OVERSHOOT * 255, LABELS),
            None,
            wrapped(epsilon=8, replays=1, value_range=(0, 255)),
        ),
        r"`x`.*clip.*tf.clip_by_value\(x, 0, 255\), y\)",
    ),
    "sparse images": (lambda: fit(sparse()), "`x`.*dense.*sparse.*to_dense"),
    "SciPy's sparse images": (
        lambda: fit(scipy.sparse.csr_matrix(np.eye(16))),
        "`x`.*dense.*sparse.*csr.*toarray",
    ),
    "sparse labels": (
        lambda: fit(y=tf.sparse.from_dense(np.eye(3)[LABELS])),
        "`y`.*dense.*SparseTensor",
    ),
    "ragged images": (lambda: fit(ragged()), "`x`.*dense.*ragged.*to_tensor"),
    "sparse images in a dataset": (
        lambda: fit(dataset(sparse(), LABELS), None),
        "`x`, a dataset,.*dense.*sparse.*dataset.map",
    ),
    "ragged images in a dataset": (
        lambda: fit(dataset(ragged(), LABELS), None),
        "`x`, a dataset,.*dense.*ragged.*dataset.map",
    ),
    "sparse images in a PyDataset": (
        lambda: fit(Items((sparse(), LABELS)), None),
        "`x`.*dense.*sparse",
    ),
    "a list of minibatches": (
        lambda: fit(MINIBATCHES, None),
        "`x`.*list of 2 minibatches.*Concatenate",
    ),
    "a list of images of several sizes": (
        lambda: fit(OF_TWO_SIZES),
        r"`x`.*one array.*\(6, 6, 1\), \(8, 8, 1\).*np.stack",
    ),
    "images of another size in the second minibatch": (
        lambda: fit(of_two_sizes(), None, of_any_size(), steps_per_epoch=2),
        r"`x`.*one size.*\(6, 6, 1\) and \(8, 8, 1\).*[Rr]esize",
    ),
    "images of one pixel, then others": (
        lambda: fit(of_two_sizes(1, 8), None, of_any_size(), steps_per_epoch=2),
        r"`x`.*one size.*\(1, 1, 1\) and \(8, 8, 1\).*PGDAdversarialModel",
    ),
    "images of another size in a PyDataset": (
        lambda: fit(
            Items(*((x.numpy(), y.numpy()) for x, y in of_two_sizes())),
            None,
            of_any_size(),
        ),
        r"`x`.*one size.*\(6, 6, 1\) and \(8, 8, 1\)",
    ),
    "one batch, sparse": (
        lambda: compiled().train_on_batch(sparse(), LABELS),
        "`x`.*dense.*sparse",
    ),
    "one batch, a list of minibatches": (
        lambda: compiled().train_on_batch(MINIBATCHES),
        "`x`.*list of 2 minibatches",
    ),
    "a generator": (
        lambda: fit(((IMAGES, LABELS) for _ in range(3)), None),
        "`x`.*more than once.*generator.*from_generator",
    ),
    "no labels": (lambda: fit(y=None), "`y`.*true labels.*y=None"),
    "a dataset without labels": (
        lambda: fit(dataset(IMAGES), None),
        r"`x`.*\(images, labels\).*Training needs labels",
    ),
    "a PyDataset without labels": (
        lambda: fit(NoLabels(), None),
        r"`x`.*PyDataset.*\(images, labels\).*ndarray",
    ),
    "a dataset and labels": (
        lambda: fit(dataset(IMAGES, LABELS), LABELS),
        "`y`.*None when `x` is a dataset",
    ),
    "an unbatched dataset": (
        lambda: fit(dataset(np.zeros(4), np.zeros(4), batch=None), None),
        r"`x`.*minibatches.*dataset.batch\(",
    ),
    "an empty dataset": (
        lambda: fit(dataset(IMAGES, LABELS).take(0), None),
        "`x`.*empty dataset",
    ),
    "an infinite dataset": (
        lambda: fit(dataset(IMAGES, LABELS).repeat(), None),
        "`steps_per_epoch`.*infinite.*steps_per_epoch=None",
    ),
    "empty arrays": (lambda: fit(IMAGES[:0], LABELS[:0]), "`x` is empty"),
    "fewer labels": (
        lambda: fit(y=LABELS[:5]),
        r"`x`, `y`.*same number.*\(16, 6, 6, 1\).*\(5,\)",
    ),
    "one-hot labels for a sparse loss": (
        lambda: fit(y=np.eye(3)[LABELS]),
        r"`y`.*class number.*\(16, 3\).*'categorical_crossentropy'",
    ),
    "class numbers for a one-hot loss": (
        lambda: fit(loss="categorical_crossentropy"),
        r"`y`.*one-hot.*\(16,\).*'sparse_categorical_crossentropy'",
    ),
    "a class that the model has not": (
        lambda: fit(y=LABELS + 1),
        "`y`.*0 to 2.*3 outputs.*1 to 3",
    ),
    "text labels": (
        lambda: fit(y=np.array(["cat"] * 16)),
        "`y`.*numbers.*<U3.*np.unique",
    ),
    "batch_size zero": (lambda: fit(batch_size=0), "`batch_size`.*batch_size=0"),
    "epochs zero": (lambda: fit(epochs=0), "`epochs`.*1 or more.*epochs=0"),
    "validation_split of a dataset": (
        lambda: fit(dataset(IMAGES, LABELS), None, validation_split=0.5),
        "`validation_split`.*arrays.*Dataset.*`validation_data`",
    ),
    "validation_split of everything": (
        lambda: fit(validation_split=1.5),
        "`validation_split`.*between 0 and 1.*1.5",
    ),
    "class weights empty": (lambda: fit(class_weight={}), "`class_weight`.*dict.*{}"),
    "class weights by name": (
        lambda: fit(class_weight={"cat": 1.0}),
        "`class_weight`.*class numbers.*'cat'",
    ),
    "initial_epoch negative": (
        lambda: fit(initial_epoch=-1),
        "`initial_epoch`.*initial_epoch=-1",
    ),
    "class weights twice": (
        lambda: fit(class_weight={0: 1.0}, sample_weight=np.ones(16)),
        "`class_weight` and `sample_weight`.*together",
    ),
    "a model without a gradient": (
        lambda: fit(model=wrapped(network=without_gradient(), replays=1)),
        "`model`.*differentiably.*None.*stop_gradient",
    ),
    "several inputs in the data": (
        lambda: fit({"a": IMAGES, "b": IMAGES}),
        "`perturbed_input`.*several.*'a', 'b'",
    ),
    "perturbed_input not in the data": (
        lambda: fit(
            IMAGES,
            model=wrapped(network=two_inputs(), perturbed_input="image", replays=1),
        ),
        "`x`.*dict.*perturbed_input='image'.*ndarray",
    ),
    # Attacks.
    "an attack without labels": (
        lambda: attack(labels=None),
        "`labels`.*labels=None.*true classes",
    ),
    "an attack without a model": (lambda: attack(model=None), "`model`.*model=None"),
    "an attack on no model": (
        lambda: attack(model=lambda x: x),
        "`model`.*keras.Model.*function",
    ),
    "0-255 images attacked": (
        lambda: attack(IMAGES * 255),
        r"`images`.*`value_range`.*\(0, 255\)",
    ),
    "a missing batch axis": (
        lambda: attack(np.zeros(3), np.zeros(3)),
        "`images`.*batch axis.*newaxis",
    ),
    "labels of another length": (
        lambda: attack(labels=LABELS[:3]),
        "`images` and `labels`.*16 images and 3 labels",
    ),
    "labels out of range": (
        lambda: attack(labels=LABELS + 1),
        "`labels`.*0 to 2.*1 to 3",
    ),
    "labels of a wrong shape": (
        lambda: attack(labels=np.zeros((16, 5))),
        r"`labels`.*\(batch, 3\).*\(16, 5\)",
    ),
    "one label for a batch": (
        lambda: attack(labels=np.int64(1)),
        "`images` and `labels`.*16 images and one number",
    ),
    "one unit that could be either": (
        lambda: attack(
            labels=LABELS % 2,
            model=keras.Sequential(
                [
                    keras.Input((6, 6, 1)),
                    layers.Flatten(),
                    layers.Dense(1, kernel_initializer="zeros"),
                ]
            ),
        ),
        "`from_logits`.*'auto'.*probability or a logit.*from_logits=False",
    ),
    "loss unknown": (
        lambda: PGDAttack(0.1, loss="dlr2"),
        "`loss`.*cross_entropy.*'dlr2'",
    ),
    "a loss of one number": (
        lambda: attack(loss=OneNumber()),
        r"`loss`.*one number an example.*\(batch,\).*'one_number'.*scalar.*last axis",
    ),
    "keep unknown": (lambda: PGDAttack(0.1, keep="first"), "`keep`.*best.*'first'"),
    "restarts zero": (lambda: PGDAttack(0.1, restarts=0), "`restarts`.*restarts=0"),
    "attack steps 2.5": (lambda: PGDAttack(0.1, steps=2.5), "`steps`.*whole.*2.5"),
    "attack step_size negative": (
        lambda: PGDAttack(0.1, step_size=-1),
        "`step_size`.*above zero.*-1",
    ),
    "from_logits unknown": (
        lambda: PGDAttack(0.1, from_logits="yes"),
        "`from_logits`.*auto.*'yes'",
    ),
    "seed a float": (lambda: PGDAttack(0.1, seed=0.5), "`seed`.*whole number.*0.5"),
    "APGD loss unknown": (
        lambda: APGDAttack(0.1, loss="cw_margin"),
        "`loss`.*cross_entropy.*targeted_dlr.*'cw_margin'",
    ),
    "APGD steps zero": (
        lambda: APGDAttack(0.1, steps=0),
        "`steps`.*1 or more.*steps=0",
    ),
    "APGD targets zero": (
        lambda: APGDAttack(0.1, loss="targeted_dlr", targets=0),
        "`targets`.*1 or more.*targets=0",
    ),
    "APGD targets None": (
        lambda: APGDAttack(0.1, targets=None),
        "`targets`.*whole number.*targets=None",
    ),
    "gradient_samples zero": (
        lambda: APGDAttack(0.1, gradient_samples=0),
        "`gradient_samples`.*1 or more.*gradient_samples=0",
    ),
    "gradient_samples 1.5": (
        lambda: APGDAttack(0.1, gradient_samples=1.5),
        "`gradient_samples`.*whole.*1.5",
    ),
    "APGD epsilon on 0-255": (
        lambda: APGDAttack(8)(IMAGES, LABELS, model=small_network()),
        "`epsilon`.*width.*epsilon=8.*8 / 255",
    ),
    "APGD restarts True": (
        lambda: APGDAttack(0.1, restarts=True),
        "`restarts`.*whole.*True",
    ),
    "FAB targets zero": (
        lambda: FABAttack(0.1, targets=0),
        "`targets`.*1 or more.*targets=0.*targets=None.*untargeted",
    ),
    "FAB steps text": (lambda: FABAttack(0.1, steps="9"), "`steps`.*whole.*'9'"),
    "FAB norm unknown": (
        lambda: FABAttack(0.1, norm="l1"),
        r"`norm`.*\['linf', 'l2'\].*'l1'",
    ),
    "queries zero": (
        lambda: SquareAttack(0.1, queries=0),
        "`queries`.*1 or more.*queries=0",
    ),
    "queries a float": (
        lambda: SquareAttack(0.1, queries=5e3),
        "`queries`.*whole.*5000.0",
    ),
    "rescale_schedule text": (
        lambda: SquareAttack(0.1, rescale_schedule="no"),
        "`rescale_schedule`.*True or False.*'no'",
    ),
    "squares of flat images": (
        lambda: SquareAttack(0.1, queries=2)(
            IMAGES.reshape(16, -1),
            LABELS,
            model=keras.Sequential([keras.Input((36,)), layers.Dense(3)]),
        ),
        r"`images`.*\(batch, height, width, channels\).*square.*, 36\).*[Rr]eshape",
    ),
    "a version unknown": (
        lambda: AutoAttack(0.1, version="fast"),
        "`version`.*standard.*plus.*rand.*'fast'",
    ),
    "parts that are no list": (
        lambda: AutoAttack(0.1, attacks="square"),
        "`attacks`.*list of untargeted attacks.*'square'",
    ),
    "parts that are no attacks": (
        lambda: AutoAttack(0.1, attacks=[0.1]),
        "`attacks`.*list of untargeted attacks.*0.1",
    ),
    "no parts": (lambda: AutoAttack(0.1, attacks=[]), "`attacks`.*at least one"),
    "parts of one name": (
        lambda: AutoAttack(0.1, attacks=[APGDAttack(0.1), APGDAttack(0.1, steps=7)]),
        "`attacks`.*each name once.*apgd_ce.*apgd_ce.*name=",
    ),
    "a targeted part": (
        lambda: AutoAttack(0.1, attacks=[PGDAttack(0.1, targeted=True)]),
        "`attacks`.*untargeted.*PGDAttack.*pgd20",
    ),
    "an ensemble of ensembles": (
        lambda: AutoAttack(0.1, attacks=[AutoAttack(0.1)]),
        "`attacks`.*untargeted attacks.*autoattack",
    ),
    "an ensemble of an ensemble of one": (
        lambda: AutoAttack(0.1, attacks=[AutoAttack(0.1, attacks=[APGDAttack(0.1)])]),
        "`attacks`.*untargeted attacks.*autoattack",
    ),
    "a part of another epsilon": (
        lambda: AutoAttack(0.1, attacks=[APGDAttack(0.2)]),
        "`attacks`.*one `epsilon`.*0.1.*'apgd_ce'.*epsilon=0.2",
    ),
    "a part of another norm": (
        lambda: AutoAttack(0.1, attacks=[APGDAttack(0.1), FABAttack(0.1, norm="l2")]),
        "`attacks`.*one `norm`.*'linf'.*'fab_t'.*norm='l2'",
    ),
    "a part of another range": (
        lambda: AutoAttack(
            0.1,
            value_range=(0, 1),
            attacks=[SquareAttack(0.1, value_range=(0, 255))],
        ),
        "`attacks`.*one `value_range`.*'square'.*255",
    ),
    "the pixels of another model": (
        lambda: attack(model=takes_8_bit_pixels(), value_range=(0, 1)),
        r"`value_range`.*\(0, 1\).*takes pixels in \(0, 255\).*Rescaling",
    ),
    "a data format that is none": (
        lambda: SquareAttack(0.1, data_format="NCHW"),
        "`data_format`.*'channels_last', 'channels_first'.*'NCHW'",
    ),
    "channels first in an attack on squares": (
        lambda: SquareAttack(0.1)(
            IMAGES.transpose(0, 3, 1, 2), LABELS, model=dense((1, 6, 6))
        ),
        r"`data_format`.*\(16, 1, 6, 6\).*'channels_last'.*'channels_first'",
    ),
    "a seed beyond 64 bits": (
        lambda: attack(seed=2**64),
        "`seed`.*18446744073709551616",
    ),
    "an attack on images that were resized": (
        lambda: attack(OVERSHOOT),
        r"`images`.*clip.*np.clip\(images, 0, 1\)",
    ),
    "an attack on sparse images": (
        lambda: attack(sparse()),
        "`images`.*dense.*sparse.*to_dense",
    ),
    "an attack on ragged images": (
        lambda: attack(ragged()),
        "`images`.*dense.*ragged.*to_tensor",
    ),
    "an attack on a list of minibatches": (
        lambda: attack(MINIBATCHES),
        "`images`.*list of 2 minibatches",
    ),
    "an attack on images of several sizes": (
        lambda: attack(OF_TWO_SIZES),
        r"`images`.*one size.*\(6, 6, 1\), \(8, 8, 1\)",
    ),
    # Evaluation.
    "evaluation of images that were resized": (
        lambda: evaluate((OVERSHOOT, LABELS)),
        r"`data`.*clip.*dataset.map",
    ),
    "evaluation of sparse images": (
        lambda: evaluate((sparse(), LABELS)),
        "`data`.*dense.*sparse",
    ),
    "evaluation of a dataset of ragged images": (
        lambda: evaluate(dataset(ragged(), LABELS)),
        "`data`, a dataset,.*dense.*ragged",
    ),
    "evaluation of a list of minibatches": (
        lambda: evaluate(MINIBATCHES),
        "`data`.*list of 2 minibatches",
    ),
    "evaluation of a list of images of several sizes": (
        lambda: evaluate((OF_TWO_SIZES, LABELS)),
        r"`data`.*one size.*\(6, 6, 1\), \(8, 8, 1\)",
    ),
    "evaluation of minibatches of several sizes": (
        lambda: evaluate_robustness(
            of_any_size().model, of_two_sizes(), LIST, verbose=0
        ),
        r"`data`.*one size.*\(6, 6, 1\) and \(8, 8, 1\).*each size by themselves",
    ),
    "no attack": (lambda: evaluate(attacks=[]), "`attacks` is empty"),
    "attacks by name": (lambda: evaluate(attacks="pgd20"), "`attacks`.*list.*'pgd20'"),
    "something that is no attack": (
        lambda: evaluate(attacks=[0.1]),
        "`attacks`.*PGDAttack.*0.1",
    ),
    "two attacks of one name": (
        lambda: evaluate(attacks=[PGDAttack(0.1), PGDAttack(0.2)]),
        r"`attacks`.*different names.*pgd20.*name=",
    ),
    "a targeted attack": (
        lambda: evaluate(attacks=[PGDAttack(0.1, targeted=True)]),
        "`attacks`.*untargeted.*targeted=True",
    ),
    "attacks of two ranges": (
        lambda: evaluate(
            attacks=[PGDAttack(0.1), PGDAttack(8, steps=3, value_range=(0, 255))]
        ),
        "`attacks`.*one `value_range`",
    ),
    "evaluation without labels": (
        lambda: evaluate(IMAGES),
        r"`data`.*\(images, labels\).*ndarray",
    ),
    "evaluation on 0-255": (
        lambda: evaluate((IMAGES * 255, LABELS)),
        "`data`.*`value_range`",
    ),
    "evaluation of a generator": (
        lambda: evaluate((IMAGES, LABELS) for _ in range(2)),
        "`data`.*one-shot generator",
    ),
    "evaluation without end": (
        lambda: evaluate(dataset(IMAGES, LABELS).repeat()),
        "`data`.*finite.*max_examples",
    ),
    "evaluation of single images": (
        lambda: evaluate(dataset(IMAGES, LABELS, batch=None)),
        r"`data`.*minibatches.*\(6, 6, 1\).*dataset.batch\(",
    ),
    "evaluation of nothing": (
        lambda: evaluate((IMAGES[:0], LABELS[:0])),
        "`data` holds no example",
    ),
    "evaluation of single images in batches": (
        lambda: evaluate(dataset(IMAGES, LABELS, batch=None), batch_size=4),
        r"`data`.*minibatches.*\(6, 6, 1\).*dataset.batch\(",
    ),
    "evaluation of single images with one-hot labels": (
        lambda: evaluate(dataset(IMAGES, np.eye(3)[LABELS], batch=None), batch_size=4),
        r"`data`.*minibatches.*6 images and 3 labels.*one-hot.*dataset.batch\(",
    ),
    "resume in a folder": (
        lambda: evaluate((IMAGES[:0], LABELS[:0]), resume="."),
        r"`resume`.*path of a file.*'.', which is a folder.*evaluation.json",
    ),
    "resume a number": (
        lambda: evaluate((IMAGES[:0], LABELS[:0]), resume=True),
        "`resume`.*path of a file.*resume=True",
    ),
    "max_examples zero": (
        lambda: evaluate(max_examples=0),
        "`max_examples`.*max_examples=0",
    ),
    "every zero": (
        lambda: RobustnessEvaluation((IMAGES, LABELS), LIST, evaluation_freq=0),
        "`evaluation_freq`.*1 or more.*evaluation_freq=0",
    ),
    "a guard's attack by name": (
        lambda: guard(attack="pgd20"),
        "`attack`.*one attack.*PGDAttack.*'pgd20'.*str",
    ),
    "a guard's attacks in a list": (lambda: guard(attack=LIST), "`attack`.*one.*list"),
    "a guard's targeted attack": (
        lambda: guard(attack=PGDAttack(0.1, targeted=True)),
        "`attack`.*untargeted.*'pgd20'.*targeted=False",
    ),
    "drop in per cent": (
        lambda: guard(drop=20),
        "`drop`.*above 0 and below 1.*drop=20.*drop=0.2",
    ),
    "drop zero": (lambda: guard(drop=0), "`drop`.*above 0.*drop=0"),
    "drop text": (lambda: guard(drop="20%"), "`drop`.*share.*'20%'.*str"),
    "patience zero": (lambda: guard(patience=0), "`patience`.*1 or more.*patience=0"),
    "restore_best_weights text": (
        lambda: guard(restore_best_weights="yes"),
        "`restore_best_weights`.*True or False.*'yes'",
    ),
    "no attack to guard a plain model with": (
        lambda: fit(model=small_network(name="plain"), callbacks=[guard()]),
        "`attack`.*not adversarially trained.*attack=None.*'plain'.*PGDAttack",
    ),
    "a guard with 0-255 images": (
        lambda: fit(callbacks=[guard((IMAGES * 255, LABELS))]),
        r"`data`.*`value_range`.*\(0, 255\)",
    ),
    "a guard with 0-255 images in a dataset": (
        lambda: fit(callbacks=[guard(dataset(IMAGES * 255, LABELS))]),
        r"`data`.*`value_range`.*\(0, 255\)",
    ),
    "a guard with a generator": (
        lambda: fit(callbacks=[guard((IMAGES, LABELS) for _ in range(2))]),
        "`data`.*one-shot generator",
    ),
    "a guard without labels": (
        lambda: fit(callbacks=[guard(IMAGES)]),
        r"`data`.*\(images, labels\).*ndarray",
    ),
    "a guard with endless data": (
        lambda: fit(callbacks=[guard(dataset(IMAGES, LABELS).repeat())]),
        r"`data`.*finite.*data.take\(n\)",
    ),
    "a guard with an empty dataset": (
        lambda: fit(callbacks=[guard(dataset(IMAGES, LABELS).take(0))]),
        "`data` holds no example",
    ),
    "a guard with a class that the model has not": (
        lambda: fit(callbacks=[guard((IMAGES, LABELS + 1))]),
        "`labels`.*0 to 2.*1 to 3",
    ),
    "a guard whose attack needs squares": (
        lambda: fit(
            IMAGES.reshape(16, -1),
            model=flat_model(),
            callbacks=[
                guard(
                    (IMAGES.reshape(16, -1), LABELS),
                    attack=SquareAttack(0.1, queries=2),
                )
            ],
        ),
        r"`images`.*\(batch, height, width, channels\).*, 36\)",
    ),
    "an unknown paper data set": (
        lambda: paper_attacks("mnist"),
        "`dataset`.*cifar10.*'mnist'",
    ),
    # The rest.
    "replay of nothing": (lambda: replay(0), "`replays`.*1 or more.*replays=0"),
    "replay of a list": (lambda: replay(2)([1, 2]), "tf.data.Dataset.*list"),
    "backup nowhere": (lambda: BackupAndRestore(""), "`backup_dir`.*folder.*''"),
    "backup_dir a file": (lambda: BackupAndRestore(__file__), "`backup_dir`.*file"),
    "save_freq unknown": (
        lambda: BackupAndRestore("backup", save_freq="batch"),
        "`save_freq`.*'batch'.*epoch",
    ),
    "augment unknown": (
        lambda: datasets.load("digits", split="train", batch_size=8, augment="mix"),
        "`augment`.*standard.*'mix'",
    ),
    "split unknown": (
        lambda: datasets.load("digits", split="dev", batch_size=8),
        "`split`.*train.*'dev'",
    ),
    "classes zero": (
        lambda: zoo.small_cnn(classes=0, input_shape=(8, 8, 1)),
        "`classes`.*1 or more.*classes=0",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_before_any_work(mistake):
    call, expected = MISTAKES[mistake]
    if "export" in mistake and backends.NAME != "tensorflow":
        expected = "needs Keras' backend 'tensorflow'"
    with pytest.raises((ValueError, TypeError, RuntimeError)) as caught:
        call()
    message = str(caught.value)
    assert re.search(expected, message, re.DOTALL), message


def test_images_that_are_too_dark_for_their_range_are_doubted():
    model = compiled(
        FreeAdversarialModel(small_network(), 8, replays=1, value_range=(0, 255))
    )
    with pytest.warns(UserWarning, match="epsilon on that scale would hide them"):
        model.fit(IMAGES, LABELS, verbose=0)
