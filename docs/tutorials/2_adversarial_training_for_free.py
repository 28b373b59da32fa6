# %% [markdown]
# # 2. Adversarial training for free
#
# Adversarial training shows the network attacked images. Making them by 7 steps of PGD
# costs seven more passes per update. *Free* adversarial training (Shafahi et al. 2019)
# costs none: the backward pass that updates the weights also yields the gradient of the
# image. This tutorial writes the algorithm down line by line, and then changes one line
# of an ordinary program.
#
# Runs from top to bottom in three minutes on a laptop; no download. Install, in a
# checkout of the repository: `pip install ".[examples]"`.

# %%
import time
import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv import (
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    datasets,
    evaluate_robustness,
    zoo,
)
from keras_free_adv.plotting import plot_adversarial_examples

EPSILON = 0.16  # of pixels in [0, 1]
UPDATES = 943  # of each training below: 41 epochs of 23 minibatches

train = datasets.load("digits", split="train", batch_size=64)
test = datasets.load("digits", split="test", batch_size=360)
images, labels = (part.numpy() for part in next(iter(test)))
loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
attack = PGDAttack(EPSILON, steps=20, step_size=EPSILON / 4, seed=0)


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


# 360 images say little about the last percent, as the library would warn each time.
warnings.filterwarnings("ignore", "Only .* examples were evaluated")


def measured(model):
    report = evaluate_robustness(model, (images, labels), [attack], verbose=0)
    return {name: f"{share:.1%}" for name, share in report.accuracy.items()}


# %% [markdown]
# ## The algorithm, line by line
#
# Two ideas. First, one tape gives both gradients. Second, every minibatch is replayed m
# times in a row, so that the perturbation has m steps to become a strong one. It is
# kept from one minibatch to the next: a good perturbation of the last images is a good
# start for the next.

# %%
m = 4
by_hand = network()
optimizer = keras.optimizers.Adam()


@tf.function
def update(x, y, delta):
    delta = delta[: tf.shape(x)[0]]
    with tf.GradientTape() as tape:
        tape.watch(delta)
        attacked = tf.clip_by_value(x + delta, 0.0, 1.0)
        loss = loss_of(y, by_hand(attacked, training=True))
    # One backward pass: the gradients of the weights, and that of delta.
    weights = by_hand.trainable_variables
    gradients, of_delta = tape.gradient(loss, (weights, delta))
    optimizer.apply(gradients, weights)  # downhill
    stepped = delta + EPSILON * tf.sign(of_delta)  # uphill
    return tf.clip_by_value(stepped, -EPSILON, EPSILON)


delta = tf.zeros((64, 8, 8, 1))
done = 0
for x, y in train.repeat():
    for _ in range(min(m, UPDATES - done)):  # replay
        new = update(x, y, delta)
        delta = tf.concat([new, delta[len(x) :]], axis=0)  # the last is shorter
        done += 1
    if done == UPDATES:
        break

print(f"{done} updates by hand: {measured(by_hand)}")

# %% [markdown]
# ## The one-line swap
#
# The library does that inside `fit`: the replay is a transformation of the data, delta
# lives in the model, and everything you use with `fit` works as before. Natural
# training first, with as many updates, for comparison.

# %%
steps = len(train)
epochs = UPDATES // steps


def trained(model):
    model.compile("adam", loss_of, metrics=["accuracy"])
    begin = time.perf_counter()
    model.fit(train, epochs=epochs, shuffle=False, verbose=0)
    return model, time.perf_counter() - begin


natural, natural_seconds = trained(network())
print(f"natural: {measured(natural)}, {natural_seconds:.1f} s")

# %%
model = network()
model = FreeAdversarialModel(model, epsilon=EPSILON, replays=m)  # <- the one line
free, free_seconds = trained(model)
print(f"Free m={m}: {measured(free)}, {free_seconds:.1f} s")

# %% [markdown]
# And what it replaces, 7-PGD training, which crafts each minibatch by seven steps:

# %%
model = PGDAdversarialModel(network(), epsilon=EPSILON, step_size=0.04, steps=7)
pgd, pgd_seconds = trained(model)
print(f"7-PGD: {measured(pgd)}, {pgd_seconds:.1f} s")

# %% [markdown]
# The network is tiny, so that the seconds are mostly overhead, and natural training
# reads the data m times as often as Free. On a ResNet an update of 7-PGD takes 5.7
# times as long as one of Free, and that 1.00 to 1.06 times as long as a natural one
# ([what training costs](../performance.md)).
#
# ## What m does
#
# m is how strong the perturbations become, and how many passes through the data are
# left: with the same number of updates, m=8 sees every image half as often as m=4. m=1
# is a single step from the perturbation of other images; a large m repeats each
# minibatch until the network forgets the others. The paper found m=8 best for CIFAR-10.

# %%
for replays in (1, 2, 4, 8):
    model = FreeAdversarialModel(network(), epsilon=EPSILON, replays=replays)
    model, _ = trained(model)
    print(
        f"m={replays}: {measured(model)}, {epochs // replays} passes through the data"
    )

# %% [markdown]
# One seed and 360 images: differences below about 7 points say nothing.
#
# ## What changed
#
# The same attack on the same digits, natural model above, robust model below:

# %%
figure = plot_adversarial_examples(
    {"natural": natural, f"Free m={m}": free}, images[:6], labels[:6], attack
)
figure

# %% [markdown]
# At the end delta, which is none of the model's weights, is at the edge of its ball:

# %%
at_the_edge = np.mean(np.abs(free.delta) > 0.999 * EPSILON)
print(f"{at_the_edge:.0%} of delta's values; {free.count_params():,} weights")

# %% [markdown]
# ## A small set of your own: begin with a robust network
#
# All of the above began with random weights. With few images that is a waste: features
# that are robust on photographs are a good start for anything else (Salman et al.
# 2020). Twenty digits of each class, enlarged to color images of 32x32 pixels, stand in
# for your photographs. `zoo.pretrained` has a small ResNet that Free training made
# robust on CIFAR-10; it gets a new last layer, and all of it is trained on.

# %%
EACH = 20  # images of a class
FURTHER = 60  # updates
SMALLER_EPSILON = 0.1


def enlarged(images):
    images = keras.ops.image.resize(images, (32, 32), interpolation="bicubic")
    images = keras.ops.convert_to_numpy(keras.ops.clip(images, 0, 1))
    return np.repeat(images, 3, axis=-1)


every, of_every = (part.numpy() for part in next(iter(train.unbatch().batch(1437))))
few = np.concatenate([np.flatnonzero(of_every == c)[:EACH] for c in range(10)])
few_images, few_labels = enlarged(every[few]), of_every[few]
others = enlarged(images[:100]), labels[:100]
attack_on_few = PGDAttack(SMALLER_EPSILON, steps=20, seed=0)


def free_training_of(body):
    keras.utils.set_random_seed(0)
    features = keras.Model(body.inputs, body.layers[-1].input)
    inputs = keras.Input((32, 32, 3))
    net = keras.Model(inputs, keras.layers.Dense(10)(features(inputs)))
    model = FreeAdversarialModel(net, epsilon=SMALLER_EPSILON, replays=4)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, FURTHER)
    model.compile(keras.optimizers.Adam(rate), loss_of, metrics=["accuracy"])
    model.fit(few_images, few_labels, batch_size=50, epochs=FURTHER // 4, verbose=0)
    found = evaluate_robustness(net, others, [attack_on_few], verbose=0)
    return {name: f"{share:.1%}" for name, share in found.accuracy.items()}


for name, body in {
    "random weights": zoo.compact_resnet(activation="silu"),
    "a robust network": zoo.pretrained("cifar10_compact_free"),
}.items():
    print(f"beginning with {name}: {free_training_of(body)}")

# %% [markdown]
# The same updates, the same images. Three seeds, more updates, a natural network to
# begin with, and backbones of `keras.applications` and KerasHub are in [transfer
# learning](../guides/transfer_learning.md).
#
# ## What to take along
#
# - `model = FreeAdversarialModel(model, epsilon=...)`, and `fit` as before.
# - `epochs=N` costs what N natural epochs cost. The data is passed through N / m times,
#   so train for several times m epochs.
# - `free.model` is your own network: save it, export it, serve it.
# - Few images? Begin with a robust network.
# - An accuracy under PGD is an upper bound: [can you trust that
#   number?](3_can_you_trust_that_number.ipynb)
# - A run that matters is watched, backed up and measured: [CIFAR-10,
#   seriously](4_cifar10_seriously.ipynb).
