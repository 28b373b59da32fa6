"""What TensorBoard would show, read back from its files."""

import builtins

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("tensorboard", reason="needs the extra `tensorboard`")

import keras

from keras_free_adv import FreeAdversarialModel, PGDAttack, RobustnessEvaluation
from tests.conftest import from_logits, small_images, small_network

pytestmark = pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")


def written(folder):
    """(tag, step) to the tensor of each summary."""
    found = {}
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                found[value.tag, event.step] = tf.make_ndarray(value.tensor)
    return found


def fitted(folder, model=None, shape=(6, 6, 1), data=None, fits=1, **settings):
    images, labels = small_images(12, shape)
    if model is None:
        model = FreeAdversarialModel(small_network(shape), 0.1, replays=2)
    model.compile("sgd", from_logits(), metrics=["accuracy"])
    attacks = [PGDAttack(0.1, steps=2, seed=0), PGDAttack(0.1, steps=1, seed=0)]
    deltas = []

    class KeepDelta(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            deltas.append(getattr(self.model, "delta", None))

    robust = RobustnessEvaluation(
        data or (images, labels), attacks, log_dir=folder, images=3, **settings
    )
    for number in range(fits):
        history = model.fit(
            images,
            labels,
            batch_size=6,
            initial_epoch=4 * number,
            epochs=4 * (number + 1),
            callbacks=[robust, KeepDelta()],
            verbose=0,
        )
    return history.history, deltas


def picture(summary):
    """The width, the height, and the pixels of an image summary."""
    return summary[:2].astype(int), tf.io.decode_png(summary[2]).numpy()


def test_accuracies_pictures_and_delta_of_each_evaluation(tmp_path):
    logs, deltas = fitted(tmp_path / "logs", evaluation_freq=2)
    found = written(tmp_path / "logs")
    steps = {1, 3}
    assert {step for _, step in found} - {0} == steps
    for step in steps:
        for name in ("pgd2", "pgd1"):
            # The history of a run has no entry before the first evaluation.
            logged = logs[f"val_{name}_accuracy"][step - 1]
            assert found[f"robustness/{name}", step] == pytest.approx(logged)
            size, pixels = picture(found[f"adversarial_examples/{name}", step])
            assert pixels.shape == (size[1], size[0], 3)
            assert len(np.unique(pixels)) > 20  # no empty page
        assert 0 <= found["robustness/natural", step] <= 1
        share = np.abs(deltas[step]) / 0.1
        edge, mean = (found[f"delta/{n}", step] for n in ("at_the_edge", "mean_size"))
        assert edge == pytest.approx((share >= 1 - 1e-5).mean())
        assert mean == pytest.approx(share.mean())
        # Rows of left end, right end, count.
        assert found["delta/values", step][:, 2].sum() == share.size


def test_a_plain_model_has_no_delta_and_a_second_fit_adds(tmp_path):
    fitted(tmp_path, model=small_network(), fits=2)
    found = written(tmp_path)
    assert not [tag for tag, _ in found if tag.startswith("delta")]
    assert {s for tag, s in found if tag == "robustness/natural"} == set(range(8))


def test_images_that_cannot_be_drawn_are_left_out(tmp_path):
    fitted(tmp_path, shape=(6, 6, 2))
    tags = {tag for tag, _ in written(tmp_path)}
    assert "robustness/pgd2" in tags
    assert not [tag for tag in tags if tag.startswith("adversarial_examples")]


def test_the_first_images_of_a_dataset_are_drawn(tmp_path):
    images, labels = small_images(12)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)
    fitted(tmp_path / "a", data=data)
    fitted(tmp_path / "b", data=(images[:3], labels[:3]))
    a, b = (written(tmp_path / name) for name in "ab")
    key = "adversarial_examples/pgd2", 0
    assert (picture(a[key])[0] == picture(b[key])[0]).all()


def test_training_is_the_same_with_and_without(tmp_path):
    weights = []
    for folder in (tmp_path, None):
        keras.utils.set_random_seed(0)
        network = small_network()
        fitted(folder, model=FreeAdversarialModel(network, 0.1, replays=2))
        weights.append(network.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_settings_are_in_the_config(tmp_path):
    robust = RobustnessEvaluation(
        small_images(4), PGDAttack(0.1, steps=1), log_dir=tmp_path, images=2
    )
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(robust)
    )
    assert (again.log_dir, again.images) == (str(tmp_path), 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"log_dir": 3}, "`log_dir`"), ({"log_dir": "a", "images": 0}, "`images`")],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        RobustnessEvaluation(small_images(4), PGDAttack(0.1, steps=1), **settings)


@pytest.mark.parametrize("missing", ["tensorboard"])
def test_what_is_not_installed_is_named(monkeypatch, tmp_path, missing):
    import_module = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == missing:
            raise ImportError(name)
        return import_module(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"keras_free_adv\[tensorboard\]"):
        RobustnessEvaluation(small_images(4), PGDAttack(0.1, steps=1), log_dir=tmp_path)
