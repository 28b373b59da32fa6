"""Free training is free: passes and updates are counted, not timed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import FreeAdversarialModel, PGDAdversarialModel
from tests.conftest import CountPasses, from_logits, small_images, small_network


def counting_network():
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(2, 3),
            CountPasses(),  # behind a weight, so that every backward pass reaches it
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


@pytest.mark.parametrize(
    ("wrap", "passes"),
    [
        (lambda net: FreeAdversarialModel(net, 0.1, replays=4), 1),
        (lambda net: PGDAdversarialModel(net, 0.1, steps=7), 8),
        (lambda net: PGDAdversarialModel(net, 0.1, steps=1), 2),
    ],
)
def test_forward_and_backward_passes_of_an_update(wrap, passes, monkeypatch):
    # A loop of a graph traces its body once; unrolled, each pass is counted.
    def unrolled(condition, body, state):
        while condition(*state):
            state = body(*state)
        return state

    monkeypatch.setattr("keras_free_adv.backends.while_loop", unrolled)
    network = counting_network()
    model = wrap(network)
    model.compile("sgd", from_logits(), run_eagerly=True)
    images, labels = small_images(16)
    counter = network.layers[1]
    model.train_on_batch(images, labels)  # PyTorch also builds with a first pass
    counter.counts.update({"forward": 0, "backward": 0})
    for update in range(1, 4):
        model.train_on_batch(images, labels)
        assert dict(counter.counts) == {
            "forward": passes * update,
            "backward": passes * update,
        }


class Batches(keras.utils.PyDataset):
    def __init__(self, images, labels, size, **kwargs):
        super().__init__(**kwargs)
        self.images, self.labels, self.size = images, labels, size

    def __len__(self):
        return -(-len(self.images) // self.size)

    def __getitem__(self, i):
        part = slice(i * self.size, (i + 1) * self.size)
        return self.images[part], self.labels[part]


def data_of(kind):
    images, labels = small_images(43)  # 6 minibatches of 8, the last of 3
    if kind == "arrays":
        return {"x": images, "y": labels, "batch_size": 8}
    if kind == "dataset":
        return {"x": tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)}
    return {"x": Batches(images, labels, 8)}


@pytest.mark.filterwarnings("ignore:This run ends after")
@pytest.mark.filterwarnings("ignore:steps_per_execution")
@pytest.mark.parametrize("kind", ["arrays", "dataset", "pydataset"])
@pytest.mark.parametrize("steps", [None, 3])
@pytest.mark.parametrize("execution", [1, 2, 4])
def test_as_many_updates_as_natural_training(kind, steps, execution):
    natural = small_network()
    natural.compile("sgd", from_logits())
    data = data_of(kind)
    if steps and kind != "arrays":
        # Natural training needs a repeated dataset for this.
        data["x"] = data["x"].repeat() if kind == "dataset" else data["x"]
    if steps and kind == "pydataset":
        expected = 2 * steps
    else:
        natural.fit(
            **data,
            epochs=2,
            steps_per_epoch=steps,
            verbose=0,
            shuffle=kind == "arrays",
        )
        expected = int(natural.optimizer.iterations)

    model = FreeAdversarialModel(small_network(), 0.1, replays=4)
    model.compile("sgd", from_logits(), steps_per_execution=execution)
    model.fit(**data, epochs=2, steps_per_epoch=steps, verbose=0)

    assert expected == 2 * (steps or 6)
    assert int(model.optimizer.iterations) == expected


def test_a_step_count_that_does_not_divide_is_lowered_and_restored():
    images, labels = small_images(40)
    model = FreeAdversarialModel(small_network(), 0.1, replays=1)
    model.compile("sgd", from_logits(), steps_per_execution=4)
    with pytest.warns(UserWarning, match="steps_per_execution=4 .* using 1"):
        model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
    assert int(model.optimizer.iterations) == 10
    assert model.steps_per_execution == 4


def test_delta_is_no_weight():
    network = small_network()
    model = FreeAdversarialModel(network, 0.1, replays=2)
    model.compile(keras.optimizers.Adam(), from_logits())
    images, labels = small_images(16)
    model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
    assert model.delta.shape == (1, 8, 6, 6, 1)
    assert model.count_params() == network.count_params()
    assert len(model.weights) == len(network.weights)
    assert len(model.optimizer.variables) == 2 + 2 * len(network.trainable_weights)
    assert not np.any([v.shape == (8, 6, 6, 1) for v in model.variables])
