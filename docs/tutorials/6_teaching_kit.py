# %% [markdown] tags=["lecturer"]
# # 6. Teaching kit
#
# Exercises for a course: students write an attack, an adversarial training and a
# refutation, and checks compare their code with the library's. A check does not only
# say that something is wrong; it knows the usual mistakes and names them. It needs no
# GPU, no download and no accounts.
#
# This file is the lecturer's copy, with the solutions, and runs from top to bottom in a
# minute on a laptop. The [students' copy](exercises/exercises.py) is this file without
# what is marked as yours: cells with the tag `lecturer`, and the lines between `BEGIN
# SOLUTION` and `END SOLUTION` (nbgrader's marks). Change what you like here, and make
# their copy anew by `python examples/student_version.py`.
#
# - **Hand out** `exercises.py`, or the notebook that `jupytext --to notebook
#   exercises.py` (`pip install jupytext`) makes of it. Install, in a checkout of the
#   repository: `pip install ".[examples]"`. Students can find this page, with its
#   solutions: change the exercises where marks depend on them.
# - **Collect** the file, run it, and read the verdicts: each is `right`, or says what
#   is missing. Code that was handed in is a stranger's: run it where it can do no harm.
# - **For slides**, `python examples/figures.py` makes every picture of the library, at
#   the size of a talk: [the gallery](../gallery.md).
#
# Exercises 1 to 3 go with [tutorial 1](1_why_your_classifier_breaks.ipynb), which has
# an attack to start from; 4 and 5 with [tutorial
# 2](2_adversarial_training_for_free.ipynb); 6 with [tutorial
# 3](3_can_you_trust_that_number.ipynb).

# %% [markdown]
# # Exercises: attack, defend, refute
#
# You write six functions. After each, a check runs it beside the library's own and says
# what it found. `raise NotWrittenYetError` stands where your code goes; leave the first
# line of each function as it is. Images are NumPy arrays `[B, height, width, 1]` with
# pixels in [0, 1], labels are class numbers `[B]`.

# %%
import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv import PGDAttack, datasets, evaluate_robustness
from keras_free_adv.teaching import (
    NotWrittenYetError,
    check_fgsm,
    check_pgd,
    check_projection,
    check_refutation,
    check_train,
    check_train_step,
    loss_and_gradient_of,
)

verdicts = {}

# %% [markdown]
# ## 1. Stay inside
#
# An attack may change no pixel by more than `epsilon`, and must leave an image: pixels
# in [0, 1]. Return, for each of `points`, the nearest point that obeys both.


# %%
def project(points, images, epsilon):
    ### BEGIN SOLUTION
    points = np.clip(points, images - epsilon, images + epsilon)
    return np.clip(points, 0, 1)
    ### END SOLUTION


verdicts["project"] = check_projection(project)
print(verdicts["project"])

# %% [markdown]
# ## 2. One step: FGSM
#
# Move every pixel by `epsilon` in the direction in which the loss rises, and stay in
# [0, 1]. `losses, gradients = loss_and_gradient(images, labels)` asks the network: one
# loss an image, and how it changes with each pixel.


# %%
def fgsm(images, labels, epsilon, loss_and_gradient):
    ### BEGIN SOLUTION
    _, gradients = loss_and_gradient(images, labels)
    return np.clip(images + epsilon * np.sign(gradients), 0, 1)
    ### END SOLUTION


verdicts["fgsm"] = check_fgsm(fgsm)
print(verdicts["fgsm"])

# %% [markdown]
# ## 3. Many steps, many starts: PGD
#
# Begin at a uniformly random point of the ball: `random.uniform(-epsilon, epsilon,
# images.shape)` is the noise. Take `steps` steps of `step_size` along the sign of the
# gradient *at the point you are at*, and project after each. Do that `restarts` times,
# and return, for each image, the end point whose loss is largest.


# %%
def pgd(images, labels, epsilon, loss_and_gradient, steps, step_size, restarts, random):
    ### BEGIN SOLUTION
    worst = images
    largest = np.full(len(images), -np.inf)
    for _ in range(restarts):
        noise = random.uniform(-epsilon, epsilon, images.shape)
        points = project(images + noise, images, epsilon)
        for _ in range(steps):
            _, gradients = loss_and_gradient(points, labels)
            points = points + step_size * np.sign(gradients)
            points = project(points, images, epsilon)
        losses, _ = loss_and_gradient(points, labels)
        worse = losses > largest  # image by image
        worst = np.where(worse[:, None, None, None], points, worst)
        largest = np.where(worse, losses, largest)
    return worst
    ### END SOLUTION


verdicts["pgd"] = check_pgd(pgd)
print(verdicts["pgd"])

# %% [markdown]
# ## 4. One update of Free training
#
# One forward and one backward pass at clip(images + delta), in training mode. The
# optimizer gets the gradients of the weights: downhill. delta goes `step_size` along
# the sign of its own gradient, uphill, and is clipped to [-epsilon, epsilon]. All
# arrays are tensors here; return the new delta.

# %%
loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def train_step(network, optimizer, images, labels, delta, epsilon, step_size):
    ### BEGIN SOLUTION
    with tf.GradientTape() as tape:
        tape.watch(delta)
        attacked = tf.clip_by_value(images + delta, 0.0, 1.0)
        loss = loss_of(labels, network(attacked, training=True))
    weights = network.trainable_variables
    of_weights, of_delta = tape.gradient(loss, (weights, delta))
    optimizer.apply(of_weights, weights)
    delta = delta + step_size * tf.sign(of_delta)
    return tf.clip_by_value(delta, -epsilon, epsilon)
    ### END SOLUTION


verdicts["train_step"] = check_train_step(train_step)
print(verdicts["train_step"])

# %% [markdown] tags=["lecturer"]
# This is what a student hears who takes two backward passes, one for the weights and
# one for delta, and forgets that delta has to stay in the ball:


# %% tags=["lecturer"]
def two_passes(network, optimizer, images, labels, delta, epsilon, step_size):
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(delta)
        attacked = tf.clip_by_value(images + delta, 0.0, 1.0)
        loss = loss_of(labels, network(attacked, training=True))
    weights = network.trainable_variables
    optimizer.apply(tape.gradient(loss, weights), weights)
    return delta + step_size * tf.sign(tape.gradient(loss, delta))


print(check_train_step(two_passes))

# %% [markdown]
# ## 5. The loops around it
#
# `minibatches` is a list of (images, labels). Replay each `replays` times in a row, and
# pass through all of them as often as makes as many updates as `epochs` epochs of
# ordinary training. delta begins at zero. Use your `train_step`, and return the last
# delta.


# %%
def train(network, optimizer, minibatches, epochs, replays, epsilon, step_size):
    ### BEGIN SOLUTION
    delta = tf.zeros_like(minibatches[0][0])
    for _ in range(epochs // replays):
        for images, labels in minibatches:
            for _ in range(replays):
                delta = train_step(
                    network, optimizer, images, labels, delta, epsilon, step_size
                )
    return delta
    ### END SOLUTION


verdicts["train"] = check_train(train)
print(verdicts["train"])

# %% [markdown]
# ## Your code, on digits
#
# When all five are right, they do together what the library does: your training against
# your attack.

# %%
EPSILON = 0.16  # of pixels in [0, 1]
STEP = EPSILON / 4
EPOCHS = 30

minibatches = list(datasets.load("digits", split="train", batch_size=64))[:-1]
test = datasets.load("digits", split="test", batch_size=360)
images, labels = (part.numpy() for part in next(iter(test)))


def digits_network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def accuracy(model, x):
    return np.mean(model.predict(x, verbose=0).argmax(-1) == labels)


natural = digits_network()
natural.compile("adam", loss_of)
natural.fit(
    datasets.load("digits", split="train", batch_size=64),
    epochs=EPOCHS,
    shuffle=False,  # it shuffles itself
    verbose=0,
)
print(f"natural: {accuracy(natural, images):.1%} of the clean test images")

# %%
if all(verdict.passed for verdict in verdicts.values()):
    free = digits_network()
    optimizer = keras.optimizers.Adam()
    optimizer.build(free.trainable_variables)
    train(free, optimizer, minibatches, 2 * EPOCHS, 4, EPSILON, STEP)
    for name, model in {"natural": natural, "your Free": free}.items():
        attacked = pgd(
            images,
            labels,
            EPSILON,
            loss_and_gradient_of(model),
            steps=20,
            step_size=STEP,
            restarts=2,
            random=np.random.default_rng(0),
        )
        print(
            f"{name}: {accuracy(model, images):.1%} natural, "
            f"{accuracy(model, attacked):.1%} under your PGD"
        )

# %% [markdown]
# ## 6. Find what is wrong with this claim
#
# "We round the pixels to the 17 levels that the digits have anyway. That costs no
# accuracy, needs no training, and makes the network robust, as 20 steps of PGD from a
# random start show."


# %%
class Rounded(keras.layers.Layer):
    def call(self, inputs):
        return keras.ops.round(16 * inputs) / 16


defense = keras.Sequential([Rounded(), natural])
attack = PGDAttack(EPSILON, steps=20, step_size=STEP, seed=0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # as its authors did
    report = evaluate_robustness(defense, (images, labels), [attack], verbose=0)
claimed = report.accuracy["pgd20"]
print(f"claimed: {claimed:.1%} under PGD-20, {report.accuracy['natural']:.1%} without")

# %% [markdown]
# Refute it: return images inside the ball that leave `defense` less than half of the
# claimed accuracy. Begin by looking at the gradients that the attack followed. You may
# use all that you wrote, and all that the library has.


# %%
def refute(images, labels, epsilon):
    ### BEGIN SOLUTION
    # The gradient of rounding is zero everywhere, so that PGD never left its random
    # start: the number is the accuracy under noise. Let the gradient pass through the
    # rounding as if it were not there (BPDA, Athalye et al. 2018).
    ask = loss_and_gradient_of(natural)

    def through_rounding(points, labels):
        return ask(np.round(16 * points) / 16, labels)

    random = np.random.default_rng(0)
    return pgd(images, labels, epsilon, through_rounding, 20, epsilon / 4, 1, random)
    ### END SOLUTION


try:
    refutation = refute(images, labels, EPSILON)
except NotWrittenYetError as error:
    print(error)
else:
    verdicts["refute"] = check_refutation(
        refutation,
        images=images,
        labels=labels,
        model=defense,
        epsilon=EPSILON,
        claimed=claimed,
    )
    print(verdicts["refute"])
    print(f"{accuracy(defense, refutation):.1%} are left of {claimed:.1%}")

# %% [markdown] tags=["lecturer"]
# `SquareAttack(EPSILON, queries=300)`, which asks for no gradient, refutes it too. And
# the report of the claim itself says what is wrong, to those who read it:

# %% tags=["lecturer"]
for doubt in report.warnings:
    print("-", doubt)

# %%
right = sum(verdict.passed for verdict in verdicts.values())
print(f"{right} of 6 are right.")
