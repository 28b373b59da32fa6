import pytest
import tensorflow as tf

from keras_free_adv.teaching import check_train_step
from tests.teaching.mutants import TRAIN_STEP, function

# It checks code that is written with tf.GradientTape.
pytestmark = pytest.mark.tensorflow_only


def test_the_right_one_passes():
    verdict = check_train_step(function(TRAIN_STEP))
    assert verdict.passed, verdict


def test_so_does_a_compiled_one():
    verdict = check_train_step(tf.function(function(TRAIN_STEP)))
    assert verdict.passed, verdict


CLIP = "tf.clip_by_value(images + delta, 0.0, 1.0)"
LOSS = "loss = loss_of(labels, network(attacked, training=True))"
GRADIENT = "gradients, of_delta = tape.gradient(loss, (weights, delta))"
APPLY = "optimizer.apply(gradients, weights)"
STEP = "delta = delta + step_size * tf.sign(of_delta)"
RETURN = "return tf.clip_by_value(delta, -epsilon, epsilon)"
TAPE = "tf.GradientTape()"


def again(delta="delta"):
    """A second pass, for delta alone."""
    return (
        "with tf.GradientTape() as tape:\n"
        "        tape.watch(delta)\n"
        f"        attacked = tf.clip_by_value(images + {delta}, 0.0, 1.0)\n"
        "        loss = loss_of(labels, network(attacked, training=True))\n"
    )


MISTAKES = {
    "weights uphill": (
        [(APPLY, "optimizer.apply([-g for g in gradients], weights)")],
        ["weights go uphill"],
    ),
    "no update": ([(APPLY, "")], ["weights stay as they were"]),
    "updated twice": ([(APPLY, f"{APPLY}; {APPLY}")], ["updated twice"]),
    "sum": (
        [(LOSS, f"{LOSS} * 8.0")],
        ["as many times too far as there are examples"],
    ),
    "clean images": (
        [
            (CLIP, "images"),
            ("tape.watch(delta)", "tape.watch(images)"),
            (GRADIENT, GRADIENT.replace("weights, delta", "weights, images")),
        ],
        ["updated at the clean images", "delta follows the gradient of the clean"],
    ),
    "inference mode": (
        [(LOSS, LOSS.replace("True", "False"))],
        ["The network runs in inference mode", "delta follows the gradient of infer"],
    ),
    "no clip of pixels": (
        [(CLIP, "images + delta")],
        ["sees pixels outside the range", "no gradient there, and stays"],
    ),
    "downhill": ([(STEP, STEP.replace("+", "-"))], ["delta goes downhill"]),
    "no sign": ([(STEP, "delta = delta + step_size * of_delta")], ["its *sign*"]),
    "no projection": ([(RETURN, "return delta")], ["delta leaves the ball"]),
    "not kept": ([(STEP, STEP.replace("delta +", "0 * delta +"))], ["is dropped"]),
    "epsilon": ([(STEP, STEP.replace("step_size", "epsilon"))], ["epsilon long"]),
    "one": ([(STEP, "delta = delta + tf.sign(of_delta)")], ["step is 1 long"]),
    "returned as it was": ([(STEP, "pass")], ["delta comes back as it was"]),
    "clipped to pixels": (
        [(RETURN, "return tf.clip_by_value(delta, 0, 1)")],
        ["the range of *pixels*"],
    ),
    "of Wong et al.": (
        [
            (
                RETURN,
                "delta = tf.clip_by_value(delta, -epsilon, epsilon)\n"
                "    return tf.clip_by_value(delta, -images, 1 - images)",
            )
        ],
        ["the variant of Wong"],
    ),
    "nothing returned": ([(RETURN, "pass")], ["It returns nothing"]),
    "too small": (
        [(RETURN, "return delta[:3]")],
        ["shape (3, 6, 6, 1); return the new delta, of shape (8, 6, 6, 1)"],
    ),
    "two backward passes": (
        [
            (TAPE, "tf.GradientTape(persistent=True)"),
            (
                GRADIENT,
                "gradients = tape.gradient(loss, weights)\n"
                "    of_delta = tape.gradient(loss, delta)",
            ),
        ],
        ["It makes 2 backward passes"],
    ),
    "delta of the new weights": (
        [(APPLY, f"{APPLY}\n    {again()}    of_delta = tape.gradient(loss, delta)")],
        ["2 forward passes", "2 backward passes", "at the *new* weights"],
    ),
    "weights at the new delta": (
        [
            (APPLY, ""),
            (
                RETURN,
                "delta = tf.clip_by_value(delta, -epsilon, epsilon)\n"
                f"    {again()}    optimizer.apply(tape.gradient(loss, weights), "
                "weights)\n    return delta",
            ),
        ],
        ["2 forward passes", "updated at the new delta"],
    ),
    "no forward pass": (
        [(LOSS, "loss = tf.reduce_sum(attacked)"), (APPLY, "")],
        ["no forward pass"],
    ),
    "half a step": (
        [(STEP, STEP.replace("step_size", "0.02"))],
        ["delta differs from the library's in"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake):
    changes, said = MISTAKES[mistake]
    verdict = check_train_step(function(TRAIN_STEP, *changes))
    assert not verdict.passed
    found = " ".join(verdict.findings)
    assert all(part in found for part in said), verdict


def test_a_delta_that_the_tape_does_not_watch_is_named():
    without = TRAIN_STEP.replace("tape.watch(delta)", "pass")
    assert without != TRAIN_STEP
    (found,) = check_train_step(function(without)).findings
    assert "call tape.watch(delta)" in found
