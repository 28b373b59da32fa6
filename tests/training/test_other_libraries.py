"""The one-line swap around classifiers of other libraries."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import (
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    TRADESModel,
    backends,
    evaluate_robustness,
    export_for_serving,
)
from tests.conftest import from_logits, small_images

METHODS = [FreeAdversarialModel, PGDAdversarialModel, TRADESModel]


def keras_cv_classifier():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras_cv = pytest.importorskip(
            "keras_cv", reason='needs pip install "keras_free_adv[keras-cv]"'
        )
        backbone = keras_cv.models.ResNetBackbone(
            stackwise_filters=[8, 16],
            stackwise_blocks=[2, 2],
            stackwise_strides=[1, 2],
            include_rescaling=False,
            input_shape=(32, 32, 3),
        )
        return keras_cv.models.ImageClassifier(
            backbone=backbone, num_classes=3, activation="softmax"
        )


def keras_hub_classifier():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras_hub = pytest.importorskip(
            "keras_hub", reason='needs pip install "keras_free_adv[keras-hub]"'
        )
        backbone = keras_hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[3],
            stackwise_num_filters=[64, 64],
            stackwise_num_blocks=[1, 1],
            stackwise_num_strides=[1, 2],
            block_type="basic_block",
            use_pre_activation=True,
            image_shape=(32, 32, 3),
        )
        return keras_hub.models.ImageClassifier(
            backbone=backbone, num_classes=3, activation="softmax", preprocessor=None
        )


def keras_application():
    return keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), weights=None, classes=3, include_preprocessing=False
    )


# KerasHub's classifier compiles itself, and is not compiled when loaded.
@pytest.mark.filterwarnings("ignore:`compile.*` was not called")
# After two epochs it may still name one class for all.
@pytest.mark.filterwarnings("ignore:The model predicts class")
@pytest.mark.parametrize(
    "make", [keras_cv_classifier, keras_hub_classifier, keras_application]
)
def test_a_classifier_is_trained_attacked_saved_loaded_and_exported(make, tmp_path):
    network = make()
    images, labels = small_images(32, (32, 32, 3))
    model = FreeAdversarialModel(network, 0.05, replays=2)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(images, labels, batch_size=16, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert np.abs(model.delta).max() == pytest.approx(0.05)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), network.predict(images, verbose=0), atol=1e-5
    )
    with pytest.warns(UserWarning, match="Only 32 examples"):
        report = evaluate_robustness(
            network, (images, labels), PGDAttack(0.05, steps=3, seed=0), verbose=0
        )
    assert report.threat_models["pgd3"]["logits"] == "softmax_input"
    if backends.NAME != "tensorflow":
        return  # exports need it, and say so elsewhere
    path = export_for_serving(loaded, tmp_path / "served")
    served = tf.saved_model.load(path).signatures["serving_default"]
    found = served(images=tf.constant(images))["probabilities"]
    np.testing.assert_allclose(found, network.predict(images, verbose=0), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_a_library_model(method):
    network = keras_application()
    model = method(
        network, 0.05, **({} if method is FreeAdversarialModel else {"steps": 2})
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    loss = model.train_on_batch(*small_images(4, (32, 32, 3)))
    assert np.isfinite(loss)
    assert from_logits().from_logits
