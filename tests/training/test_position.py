"""The place in the data belongs to the model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import FreeAdversarialModel, PGDAdversarialModel, datasets
from tests.conftest import from_logits, small_images, small_network, tell
from tests.training.test_cost import Batches

pytestmark = pytest.mark.filterwarnings("ignore:This run ends after")


class Recording(FreeAdversarialModel):
    """Keeps the identity of the first image of each minibatch it trains on."""

    def update(self, data):
        tell(lambda image: self.seen.append(round(float(image.sum()), 4)), data[0][0])
        return super().update(data)


def recording_model(replays=4):
    keras.utils.set_random_seed(7)
    model = Recording(small_network(), 0.1, replays=replays)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), from_logits())
    model.seen = []
    return model


def data_of(kind):
    images, labels = small_images(43)
    if kind == "arrays":
        return {"x": images, "y": labels, "batch_size": 8}
    if kind == "dataset":
        return {"x": tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)}
    if kind == "loaded":
        return {"x": datasets.load("digits", split="train", batch_size=256)}
    return {"x": Batches(images, labels, 8, workers=2 if kind == "workers" else 1)}


@pytest.mark.parametrize("kind", ["arrays", "dataset", "pydataset", "workers"])
def test_sixteen_fits_of_one_epoch_equal_one_of_sixteen(kind):
    once = recording_model()
    once.fit(**data_of(kind), epochs=16, verbose=0)
    often = recording_model()
    for _ in range(16):
        often.fit(**data_of(kind), epochs=1, verbose=0)

    assert often.seen == once.seen
    assert len(once.seen) == 16 * 6
    for one, other in zip(once.get_weights(), often.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(once.delta, often.delta)
    # Every minibatch came, four times in a row, and passes differ if shuffled.
    runs = np.array(once.seen).reshape(-1, 4)
    assert (runs == runs[:, :1]).all()
    first_pass, second_pass = runs[:6, 0].tolist(), runs[6:12, 0].tolist()
    assert len(set(first_pass)) == 6
    if kind == "dataset":
        assert first_pass == second_pass  # an unshuffled dataset keeps its order
    else:
        assert first_pass != second_pass


def test_a_shuffled_dataset_is_seen_whole_by_many_fits():
    images, labels = small_images(64)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(64).batch(4)
    model = recording_model(replays=8)
    for _ in range(8):
        model.fit(data, epochs=1, verbose=0)
    firsts = np.array(model.seen).reshape(-1, 8)
    assert (firsts == firsts[:, :1]).all()
    assert len(set(model.seen)) == 16  # each of the pass's minibatches, once


def test_a_seeded_shuffle_gives_many_fits_the_order_of_one():
    def seen(fits, epochs):
        model = recording_model(replays=2)
        data = tf.data.Dataset.from_tensor_slices(small_images(43))
        data = data.shuffle(43, seed=3).batch(8)
        for _ in range(fits):
            model.fit(data, epochs=epochs, verbose=0)
        return model.seen

    once = seen(1, 8)
    assert seen(4, 2) == once
    # Four passes of six minibatches, each in an order of its own.
    passes = np.array(once)[::2].reshape(4, 6)
    assert len({tuple(order) for order in passes.tolist()}) == 4


def test_loaded_sets_are_addressed_by_position():
    def trained(fits, epochs):
        keras.utils.set_random_seed(7)
        model = Recording(small_network((8, 8, 1), 10), 0.1, replays=4)
        model.compile("sgd", from_logits())
        model.seen = []
        for _ in range(fits):
            model.fit(**data_of("loaded"), epochs=epochs, verbose=0)
        return model

    once, often = trained(1, 4), trained(4, 1)
    assert once.seen == often.seen
    np.testing.assert_array_equal(once.delta, often.delta)


def test_replays_cross_the_end_of_an_epoch():
    model = recording_model(replays=4)
    images, labels = small_images(40)
    model.fit(images, labels, batch_size=8, epochs=2, shuffle=False, verbose=0)
    sums = [round(float(images[i : i + 8][0].sum()), 4) for i in range(0, 40, 8)]
    # m=4, 5 steps an epoch: 0000 1 | 111 22
    assert model.seen == [sums[i] for i in (0, 0, 0, 0, 1, 1, 1, 1, 2, 2)]


def test_initial_epoch_enters_the_stream_where_that_epoch_begins():
    images, labels = small_images(40)
    data = {"x": images, "y": labels, "batch_size": 8, "verbose": 0}
    whole = recording_model()
    whole.fit(**data, epochs=4)
    part = recording_model()
    part.fit(**data, initial_epoch=2, epochs=4)
    assert part.seen == whole.seen[10:]


def test_a_saved_model_goes_on_where_it_stopped(tmp_path):
    images, labels = small_images(40)
    data = {"x": images, "y": labels, "batch_size": 8, "verbose": 0}
    straight = PGDAdversarialModel(small_network(), 0.1, steps=2)
    straight.compile("adam", from_logits())
    straight.fit(**data, epochs=1)
    straight.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    straight.fit(**data, epochs=2)
    loaded.fit(**data, epochs=2)
    for one, other in zip(straight.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_passes_are_logged():
    images, labels = small_images(40)
    model = recording_model(replays=2)
    history = model.fit(images, labels, batch_size=8, epochs=3, verbose=0)
    assert history.history["passes"] == [0.5, 1.0, 1.5]


def test_a_run_that_sees_less_than_the_data_warns():
    images, labels = small_images(40)
    model = recording_model(replays=8)
    with pytest.warns(UserWarning, match=r"15 updates.*1.875 minibatches of the 5"):
        model.fit(images, labels, batch_size=8, epochs=3, verbose=0)


@pytest.mark.filterwarnings("default:This run ends after")
def test_other_data_begins_on_a_whole_replay_and_is_counted_anew():
    images, labels = small_images(40)
    model = recording_model(replays=4)
    # 15 updates: three minibatches four times, and the fourth three times.
    model.fit(images, labels, batch_size=8, epochs=3, shuffle=False, verbose=0)
    model.seen.clear()
    message = "after 4 updates, 1 minibatches of the 2 in the data.*sees 50%"
    with pytest.warns(UserWarning, match=message):
        model.fit(images[:16], labels[:16], batch_size=8, epochs=2, verbose=0)
    assert len(model.seen) == 4
    assert len(set(model.seen)) == 1
    # The same data goes on, without another warning.
    model.fit(images[:16], labels[:16], batch_size=8, epochs=2, verbose=0)
    assert len(set(model.seen)) == 2


def test_train_on_batch_leaves_the_place_and_lets_the_caller_replay():
    images, labels = small_images(40)
    model = recording_model()
    for _ in range(3):
        model.train_on_batch(images[:8], labels[:8])
    model.fit(images, labels, batch_size=8, epochs=1, shuffle=False, verbose=0)
    first = round(float(images[0].sum()), 4)
    assert model.seen[3:7] == [first] * 4


def test_delta_grows_with_the_largest_minibatch_and_short_ones_use_its_first_rows():
    images, labels = small_images(12)
    model = FreeAdversarialModel(small_network(), 0.1, replays=1)
    model.compile(keras.optimizers.SGD(0.0), from_logits())
    assert model.delta is None
    model.train_on_batch(images[:4], labels[:4])
    before = model.delta
    assert before.shape == (1, 4, 6, 6, 1)
    model.train_on_batch(images[:7], labels[:7])
    grown = model.delta
    assert grown.shape == (1, 7, 6, 6, 1)
    assert np.abs(grown[0, 4:]).max() == np.float32(0.1)  # one step from zero
    model.train_on_batch(images[:2], labels[:2])
    np.testing.assert_array_equal(model.delta[0, 2:], grown[0, 2:])
