import pytest
import tensorflow as tf

from keras_free_adv.teaching import check_train
from tests.teaching.mutants import TRAIN, function

# It checks code that is written with tf.GradientTape.
pytestmark = pytest.mark.tensorflow_only


def test_the_right_one_passes():
    verdict = check_train(function(TRAIN))
    assert verdict.passed, verdict


def test_so_does_a_compiled_update():
    compiled = TRAIN.replace("def train_step", "@tf.function\ndef train_step")
    verdict = check_train(function(compiled))
    assert verdict.passed, verdict


PASSES = "    for _ in range(epochs // replays):\n"
BATCHES = "        for images, labels in minibatches:\n"
REPLAYS = "            for _ in range(replays):\n"
ZERO = "delta = tf.zeros_like(minibatches[0][0])\n"
RETURN = "\n    return delta\n"
KEPT = "                delta = train_step(\n"
MISTAKES = {
    "epochs not divided": (
        [(PASSES, PASSES.replace("// replays", ""))],
        "It makes 24 updates, and epochs=4 of natural training are 12: divide",
    ),
    "not replayed": ([(REPLAYS, REPLAYS.replace("replays", "1"))], "It makes 6 upda"),
    "delta reset by replay": (
        [(REPLAYS, f"{REPLAYS}                {ZERO}")],
        "again at every replay",
    ),
    "delta reset by minibatch": (
        [(BATCHES, f"{BATCHES}            {ZERO}")],
        "again for every minibatch",
    ),
    "delta reset by pass": (
        [(PASSES, f"{PASSES}        {ZERO}")],
        "again in every pass",
    ),
    "delta not kept": ([(KEPT, KEPT.replace("delta =", "new ="))], "every replay"),
    "a delta each": (
        [
            (ZERO, "deltas = {}\n"),
            (
                BATCHES,
                f"{BATCHES}            key = float(tf.reduce_sum(images))\n"
                "            delta = deltas.get(key, tf.zeros_like(images))\n",
            ),
            (
                "step_size\n                )",
                "step_size\n                )\n            deltas[key] = delta",
            ),
        ],
        "a delta of its own",
    ),
    "replays outside": (
        [
            (BATCHES, "        for _ in range(replays):\n"),
            (REPLAYS, "            for images, labels in minibatches:\n"),
        ],
        "not replayed in a row",
    ),
    "passes inside": (
        [
            (PASSES, "    for images, labels in minibatches:\n"),
            (BATCHES, "        for _ in range(epochs // replays):\n"),
        ],
        "before the next is ever seen",
    ),
    "nothing returned": ([(RETURN, "\n")], "It returns nothing"),
    "no update": ([(PASSES, "    for _ in []:\n")], "It makes no update"),
    "one minibatch only": (
        [(BATCHES, BATCHES.replace("minibatches", "minibatches[:1]"))],
        "It makes 4 updates; epochs=4 of 3 minibatches are 12",
    ),
    "an update that is wrong": (
        [("return tf.clip_by_value(delta, -epsilon, epsilon)", "return delta")],
        "Does check_train_step pass",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake):
    changes, said = MISTAKES[mistake]
    verdict = check_train(function(TRAIN, *changes))
    assert not verdict.passed
    assert said in " ".join(verdict.findings), verdict


def test_delta_that_lags_behind_is_noticed():
    train_step = function(TRAIN.split("def train(")[0])

    def train(network, optimizer, minibatches, epochs, replays, epsilon, step_size):
        """Each update gets the delta before the last."""
        before = delta = tf.zeros_like(minibatches[0][0])
        for _ in range(epochs // replays):
            for images, labels in minibatches:
                for _ in range(replays):
                    before, delta = (
                        delta,
                        train_step(
                            network,
                            optimizer,
                            images,
                            labels,
                            before,
                            epsilon,
                            step_size,
                        ),
                    )
        return delta

    found = " ".join(check_train(train).findings)
    assert "does each update get the delta that the last one returned?" in found
