"""Two worker processes on this machine, and one process beside them."""

import textwrap

import numpy as np
import pytest

from tests.conftest import said_by, said_by_workers, start_workers

# Run by each worker, and by one process with no strategy; saves what it found.
PROGRAM = textwrap.dedent(
    """
    import sys, warnings
    import numpy as np, tensorflow as tf

    folder, alone = sys.argv[1], sys.argv[2] == "alone"
    strategy = (tf.distribute.get_strategy() if alone
                else tf.distribute.MultiWorkerMirroredStrategy())
    import keras
    from keras_free_adv import (
        FreeAdversarialModel, PGDAdversarialModel, PGDAttack, RobustnessEvaluation,
        datasets, evaluate_robustness)
    from keras_free_adv import keras_internals
    from keras_free_adv.distribution import workers
    from keras_free_adv.training.wrapped_model import WrappedModel
    from tests.conftest import from_logits, small_images, small_network

    number = workers.worker_number(strategy)
    workers.AT_ONCE_BYTES = 600  # two of the four examples of a replica's delta
    images, labels = small_images(37)  # the last minibatch, of 5, is shared as 4 and 1
    weights = np.linspace(0.5, 1.5, 37)
    found = {}

    def train(name, wrap, optimizer="sgd", callbacks=(), **settings):
        # The second worker has other seeds, and must not use them.
        keras.utils.set_random_seed(1 + number)
        with strategy.scope():
            model = wrap(small_network())
            model.compile(keras.optimizers.SGD(0.05), from_logits(),
                          metrics=["accuracy"], weighted_metrics=["accuracy"])
        history = model.fit(
            images, labels, batch_size=8, epochs=8, verbose=0, sample_weight=weights,
            validation_data=(images[:13], labels[:13]), callbacks=list(callbacks),
            **settings).history
        for key, values in history.items():
            found[f"{name}.{key}"] = values
        for i, weight in enumerate(model.get_weights()):
            found[f"{name}.weight{i}"] = weight
        return model

    attack = PGDAttack(0.1, steps=3, restarts=2, seed=0, name="pgd")
    robust = RobustnessEvaluation((images, labels), attack, evaluation_freq=4)
    free = train("free", lambda n: FreeAdversarialModel(n, 0.1, replays=4),
                 callbacks=[robust])
    train("pgd", lambda n: PGDAdversarialModel(n, 0.1, steps=2, random_start=False))
    evaluated = free.evaluate(images[:21], labels[:21], batch_size=8, verbose=0)
    found["evaluate"] = evaluated
    found["predict"] = free.predict(images[:21], batch_size=8, verbose=0)

    # Each worker attacks its share; both have the whole report.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = evaluate_robustness(free, (images, labels), attack, batch_size=8,
                                     verbose=0, resume=f"{folder}/{sys.argv[2]}.json")
    found["standing"] = report.robust["pgd"]
    found["forward"] = report.passes["pgd"]["forward"]

    # Of what `datasets.load` gives, each decodes its part; the last minibatch has 37.
    digits = datasets.load("digits", split="train", batch_size=100, augment="standard")
    keras.utils.set_random_seed(1 + number)
    with strategy.scope():
        model = FreeAdversarialModel(small_network((8, 8, 1), 10), 0.1, replays=2)
        model.compile(keras.optimizers.SGD(0.05), from_logits(), metrics=["accuracy"])
    history = model.fit(digits, epochs=3, verbose=0).history
    found |= {f"digits.{key}": values for key, values in history.items()}
    found |= {f"digits.weight{i}": w for i, w in enumerate(model.get_weights())}

    # delta of all is in a file; each has its own.
    free.save(f"{folder}/model{sys.argv[2]}{number}.keras")
    found["all_deltas"] = np.concatenate(free._perturbation.all_replicas())
    found["own_delta"] = free.delta
    with strategy.scope():
        loaded = keras.models.load_model(f"{folder}/model{sys.argv[2]}{number}.keras")
    found["loaded_all_deltas"] = np.concatenate(loaded._perturbation.all_replicas())

    if not alone:
        try:
            evaluate_robustness(free, (images, labels), PGDAttack(0.1), verbose=0)
        except ValueError as error:
            found["unseeded"] = str(error)
        try:  # the file of the evaluation above, and one that is not there
            evaluate_robustness(free, (images, labels), attack, verbose=0, batch_size=8,
                                resume=f"{folder}/worker{number or ''}.json")
        except RuntimeError as error:
            found["unseen"] = str(error)
        free._position.update += number
        try:
            free.fit(images, labels, verbose=0)
        except RuntimeError as error:
            found["elsewhere"] = str(error)
        # Natural training; each replica's mean is of its share, as Keras has it.
        images, labels, weights = images[:32], labels[:32], weights[:32]
        keras.utils.set_random_seed(1)
        train("natural", WrappedModel, shuffle=False)

        # What Keras itself cannot do: see the second test.
        class Built(keras_internals.BuiltFromOneReplica):
            def __init__(self, inner):
                super().__init__()
                self.inner = inner

            def call(self, inputs):
                return self.inner(inputs)

        for name, wrap in {"keras": lambda network: network, "built": Built}.items():
            try:
                train(name, wrap)
            except Exception as error:
                found[f"{name}_fails"] = f"{type(error).__name__}: {error}"[-500:]
    else:
        images, labels, weights = images[:32], labels[:32], weights[:32]
        keras.utils.set_random_seed(1)
        train("natural", lambda network: network, shuffle=False)
    np.savez(f"{folder}/{sys.argv[2]}{number}.npz", **found)
    """
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    processes = start_workers(["-c", PROGRAM, str(folder), "worker"])
    outputs, codes = said_by_workers(processes)
    assert codes == [0, 0], outputs
    assert (folder / "worker.json").exists()
    said_by(PROGRAM, folder, "alone")
    return [
        dict(np.load(folder / f"{name}.npz"))
        for name in ("worker0", "worker1", "alone0")
    ]


def test_two_workers_train_and_evaluate_as_one_process(found):
    first, second, alone = found
    for key in alone:
        if key == "own_delta":
            continue
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)
        np.testing.assert_allclose(first[key], alone[key], atol=1e-5, err_msg=key)
    # A worker's delta is its half.
    halves = [first["own_delta"][0], second["own_delta"][0]]
    np.testing.assert_allclose(halves, alone["own_delta"][0].reshape(2, 4, 6, 6, 1))
    assert not np.array_equal(*halves)
    np.testing.assert_array_equal(first["loaded_all_deltas"], first["all_deltas"])
    for worker in (first, second):
        assert "with seed=None" in str(worker["unseeded"])
        assert "Received: workers after [40, 41] updates" in str(worker["elsewhere"])
        assert "`resume` must be a file that all workers see" in str(worker["unseen"])


def test_keras_still_needs_what_the_library_changes_for_workers(found):
    """If this fails, keras issue 20585 is mended: take the changes out.

    They are `keras_internals.BuiltFromOneReplica` and `workers.logs_of_workers`.
    """
    for worker in found[:2]:
        assert "PerReplica" in str(worker["keras_fails"])
        assert "Invalid reduction dimension 0" in str(worker["built_fails"])


ALONE = """
import numpy as np, tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
import keras
from keras_free_adv import FreeAdversarialModel
from keras_free_adv.distribution import workers
from tests.conftest import from_logits, small_images, small_network

assert not workers.many_workers(strategy)
with strategy.scope():
    model = FreeAdversarialModel(small_network(), 0.1, replays=2)
    model.compile("sgd", from_logits())
images, labels = small_images(16)
history = model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
assert len(history.history["loss"]) == 2
assert np.ndim(model.train_on_batch(images[:8], labels[:8])) == 0
assert np.ndim(model.test_on_batch(images[:8], labels[:8])) == 0
print("a cluster of one")
"""


def test_a_cluster_of_one_worker_is_as_one_process():
    outputs, codes = said_by_workers(start_workers(["-c", ALONE], count=1))
    assert codes == [0], outputs
    assert "a cluster of one" in outputs[0]
