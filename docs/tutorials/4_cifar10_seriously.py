# %% [markdown]
# # 4. CIFAR-10, seriously
#
# A serious run takes hours on hardware that is not yours alone: its settings have to be
# written down, it will be stopped, and nobody watches it. This tutorial makes such a
# run step by step: a recipe, a schedule, mixed precision, callbacks that watch, a
# backup, a stop in the middle, several devices, and a final measurement.
#
# All of it is done here on scikit-learn's digits, at the size of minutes. What CIFAR-10
# itself needs are the commands at the end, which are not run here.
#
# Runs from top to bottom in two minutes on a laptop; no download. Install, in a
# checkout of the repository: `pip install ".[examples]"`.

# %%
import tempfile
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv import (
    BackupAndRestore,
    CollapseGuard,
    PGDAttack,
    RobustnessEvaluation,
    evaluate_robustness,
    recipes,
)
from keras_free_adv.plotting import plot_training_history
from keras_free_adv.recipes import building

# Two halves of the processor, for the section on many devices. TensorFlow wants to know
# before anything is computed.
gpus = tf.config.list_physical_devices("GPU")
if not gpus:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )

runs = Path(tempfile.mkdtemp())
# Right, and said in each report; here it would be said a dozen times.
warnings.filterwarnings("ignore", "Only .* examples were evaluated")

# %% [markdown]
# ## A recipe
#
# A recipe is a training as plain data: numbers and strings, no objects. Every row of
# the paper's tables is one, and so are small versions that fit two CPU cores.

# %%
cifar10 = recipes.get("cifar10_small_free8")
for name, value in cifar10.to_dict().items():
    print(f"{name}: {value}")

# %% [markdown]
# `published` are the figures of the paper for *its* training, which `published_on`
# names: 80,000 updates of a network many times this size. They are printed beside
# yours, and are not what this recipe will reach.
#
# `replaced` changes settings. What depends on them follows: a schedule keeps its
# proportions when the length changes, a step size its share of epsilon, and published
# figures of another training are dropped. The digits have recipes too. Ours makes 60
# short epochs, in bfloat16 as the small CIFAR-10 recipe does.

# %%
recipe = recipes.get("digits_free4").replaced(
    augment="none", epochs=60, policy="mixed_bfloat16"
)
theirs = cifar10.to_dict()
for name, value in recipe.to_dict().items():
    if value != theirs[name] and not name.startswith(("published", "name")):
        print(f"{name:16} CIFAR-10: {theirs[name]!s:34.34} here: {value}")

# %% [markdown]
# Everything else is the same: the optimizer, the batch size, the kind of schedule. What
# you learn here on one you can do with the other.
#
# ## Count in updates
#
# `building` has the functions that make of a recipe what is trained;
# `keras-free-adv train` is made of them. The data first. An epoch of a recipe is not a
# pass through the data: it is a number of updates, the same for each method, so that
# methods can be compared.

# %%
data = building.data(recipe, recipe.train_split, seed=0)
minibatches, m = len(data), recipe.method_arguments["replays"]
print(f"{recipe.epochs} epochs of {recipe.steps_per_epoch}: {recipe.updates} updates.")
print(f"Each of {minibatches} minibatches is replayed {m} times in a row:")
print(f"{recipe.updates / m / minibatches:g} passes through the data.")

# %% [markdown]
# A replay is an update: the optimizer steps, and the schedule moves on. So a schedule
# that is right for natural training of this length is right here; do not divide it by
# m. This one rises in a line from 0 and falls in a line to 0; the paper's own, for
# WRN-32-10, divides the rate by 10 after half and after three quarters of the updates.

# %%
paper = recipes.get("cifar10_wrn32_10_free8")
print("share of the updates  this recipe   the paper's")
for share in (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0):
    here, there = (
        float(building.learning_rate(one)(round(share * one.updates)))
        for one in (recipe, paper)
    )
    print(f"{share:20.0%}  {here:11.4f}  {there:11.4f}")

# %% [markdown]
# ## Mixed precision
#
# `policy` is Keras' dtype policy. In `mixed_bfloat16` the layers compute in bfloat16,
# which recent CPUs and GPUs have instructions for; the weights stay in float32. Three
# things must not be rounded so coarsely: the perturbation, the layer that centers the
# pixels, and the logits, of which the loss is made. The library keeps the first in
# float32, and the networks of its zoo the other two.

# %%
network = building.network(recipe, data)
model = building.compiled(recipe, network)
for layer in network.layers[1:]:
    held = f", weights in {layer.variable_dtype}" if layer.variables else ""
    print(f"{layer.name:14} computes in {layer.compute_dtype}{held}")

# %% [markdown]
# `mixed_float16`, for GPUs without bfloat16, has few exponents: small gradients become
# zero. So the loss is multiplied by a large number, and the gradients are divided by
# it. Keras wraps the optimizer for that by itself. The direction of delta's step does
# not change, as it is a sign.

# %%
half = recipe.replaced(policy="mixed_float16")
of_half = building.compiled(half, building.network(half, data)).optimizer
print(f"{recipe.policy}: {type(model.optimizer).__name__}")
inner = type(of_half.inner_optimizer).__name__
print(f"{half.policy}: {type(of_half).__name__} around {inner},")
print(f"which multiplies the loss by {of_half.initial_scale:,.0f} at first")

# %% [markdown]
# What it gains depends on the hardware and the network; measure it on yours. Without
# instructions for bfloat16 it can be slower than float32.


# %%
def seconds_of_an_epoch(policy):
    short = recipe.replaced(policy=policy)
    model = building.compiled(short, building.network(short, data))
    taken = []
    for _ in range(4):
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This run ends")  # on purpose
            model.fit(data, steps_per_epoch=short.steps_per_epoch, verbose=0)
        taken.append(time.perf_counter() - begin)
    return min(taken)


for policy in ("float32", "mixed_bfloat16"):
    print(f"{policy}: {seconds_of_an_epoch(policy):.2f} s for an epoch, at best")

# %% [markdown]
# ## Watch it
#
# Training accuracy of an adversarial model is accuracy under its own perturbation, and
# does not say how robust it is. Two callbacks do:
#
# - `RobustnessEvaluation` attacks held-out images every few epochs, and logs
#   `val_pgd20_accuracy`. ModelCheckpoint and EarlyStopping can monitor that; put them
#   after it, with `mode="max"`.
# - `CollapseGuard` attacks after each epoch. When robust accuracy is more than `drop`
#   below its best so far, it stops the run, and puts the best weights back. (In
#   *catastrophic overfitting* training accuracy goes on rising meanwhile.) A healthy
#   run it leaves as it is. So few images make a noisy curve: `drop` is 30 percentage
#   points here, in place of 20.
#
# What you look at while you train, and choose by, cannot be the final test: a third of
# the test images is for watching, the rest for the end. (Of CIFAR-10 take
# `train_split="train[:98%]"`, and watch on `"train[98%:]"`.)

# %%
test = building.data(recipe, recipe.test_split)
images, labels = (part.numpy() for part in next(iter(test.unbatch().batch(360))))
watched = images[:120], labels[:120]
final = images[120:], labels[120:]
pgd = PGDAttack(recipe.epsilon, steps=20, step_size=recipe.epsilon / 4, seed=0)

# %% [markdown]
# ## The program
#
# This is a whole training program, as a function. `BackupAndRestore` is the last of the
# callbacks, so that what the others have learned is in the backup: here after every 50
# updates, also within an epoch. The backup goes when training ends.


# %%
def program(folder, *more, seed=0):
    keras.utils.set_random_seed(seed)
    data = building.data(recipe, recipe.train_split, seed=0)
    network = building.network(recipe, data)
    model = building.compiled(recipe, network)
    history = model.fit(
        data,
        epochs=recipe.epochs,
        steps_per_epoch=recipe.steps_per_epoch,
        callbacks=[
            RobustnessEvaluation(watched, pgd, evaluation_freq=5),
            CollapseGuard(watched, drop=0.3),
            *more,
            BackupAndRestore(folder, save_freq=50),
        ],
        verbose=0,
    )
    return model, history.history


begin = time.perf_counter()
model, history = program(runs / "undisturbed")
print(f"{time.perf_counter() - begin:.1f} s, {history['passes'][-1]:g} passes")
print(f"training accuracy, perturbed: {history['accuracy'][-1]:.1%}")
print(f"watched images under PGD-20: {history['val_pgd20_accuracy'][-1]:.1%}")

# %% [markdown]
# ## Stop it in the middle
#
# The same program again, in another folder; after a little more than half of the
# updates, in the middle of an epoch, the power fails. An exception plays the power cut:
# nothing of the model is kept, and what goes on is on the disk.


# %%
class PowerCut(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == recipe.updates // 2 + 11:
            raise SystemExit(f"power cut in epoch {self.epoch + 1}, update {batch + 1}")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


folder = runs / "stopped"
try:
    program(folder, PowerCut())
except SystemExit as stopped:
    print(stopped)
print("on the disk:", sorted(path.name for path in folder.iterdir()))

# %% [markdown]
# Start the same program again. It builds a new model, with other weights even (another
# seed), finds the backup, and goes on with the next update. It ends with the bits of
# the run that was never stopped:

# %%
continued, history_continued = program(folder, seed=1)
same = [
    np.array_equal(one, other)
    for one, other in zip(model.get_weights(), continued.get_weights(), strict=True)
]
print(f"weights that have the same bits: {sum(same)} of {len(same)}")
print("delta has the same bits:", np.array_equal(model.delta, continued.delta))
print("the history is the same:", history == history_continued)
print("backups that are left:", [path.name for path in folder.glob("*")])

# %% [markdown]
# [Nothing lost, nothing wrong](../reliability.md) says how this is tested with programs
# that are killed by the operating system at any moment, and what is not promised: on
# GPUs add `tf.config.experimental.enable_op_determinism()`; and a `tf.data.Dataset` of
# your own needs a seed in each shuffle.
#
# ## How it went

# %%
figure = plot_training_history(history, title=recipe.name)
figure

# %% [markdown]
# The curve of training is under delta, those of validation under real attacks on images
# that it was not trained on; the gap between them is what training accuracy does not
# tell. The guard's attack has 10 steps, the other one 20, and is looked at after every
# fifth epoch; in between its last value is repeated.
#
# ## Many devices
#
# Make the model within a strategy's scope; nothing else changes. The batch size is the
# global one, each device has its share of each minibatch, and a delta of its own for
# that share, which is never sent. Without GPUs two halves of the processor stand in for
# two of them: that shows that it is the same training, not how much faster GPUs are.

# %%
strategy = tf.distribute.MirroredStrategy(None if gpus else ["CPU:0", "CPU:1"])
whole = recipe.replaced(policy="float32")


def after_some_updates(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = building.compiled(whole, building.network(whole, data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This run ends")  # on purpose
        model.fit(data, steps_per_epoch=16, verbose=0)
    return model


one = after_some_updates(tf.distribute.get_strategy())
several = after_some_updates(strategy)
apart = max(
    np.abs(a - b).max()
    for a, b in zip(one.get_weights(), several.get_weights(), strict=True)
)
print(f"delta on one device: {one.delta.shape}")
print(f"delta on {strategy.num_replicas_in_sync}: {several.delta.shape}")
print(f"the weights after 16 updates differ by {apart:.1g} at most")

# %% [markdown]
# They differ by the order of sums. (A network with batch normalization differs by more:
# each device normalizes with the statistics of its own share, as in natural training.)
# With k times the devices give k times the batch, and raise the learning rate as for
# natural training. Many machines: [many devices](../many_devices.md).
#
# ## The final measurement
#
# In float32, whatever it was trained in: an attack on a coarse grid is a weaker attack.
# The attacks are those of the paper's table, at the recipe's epsilon, on images that
# nobody has looked at.

# %%
served = building.network(recipe, data, policy="float32")
served.set_weights(model.model.get_weights())
served.save(runs / "robust.keras")  # plain Keras

report = evaluate_robustness(served, final, building.attacks(recipe), verbose=0)
print(report)
low, high = report.intervals["pgd20"]
print(f"PGD-20: {report.accuracy['pgd20']:.1%}, 95% interval {low:.1%} to {high:.1%}")

# %% [markdown]
# Ten restarts take some more: one random start is not enough here. The worst case
# counts an image only if no attack broke it. The intervals say how well so few images
# determine the accuracy on all such images; another seed of training adds to that. And
# each figure is an upper bound: finish with AutoAttack ([can you trust that
# number?](3_can_you_trust_that_number.ipynb)).
#
# ## CIFAR-10
#
# The same, as commands, in a checkout of the repository. The first one downloads
# CIFAR-10 by TensorFlow Datasets, trains for about 10 minutes on two CPU cores that
# have instructions for bfloat16, and prints the table of attacks on 1,000 test images:
#
# ```shell
# keras-free-adv train --recipe=cifar10_small_free8 --monitor_every=5
# ```
#
# Stop it, even by a kill, and give the same command again: it goes on. `--list` prints
# the recipes, `--show` the settings of one, and `--set` changes any of them:
#
# ```shell
# keras-free-adv train --recipe=cifar10_small_free8 --output=runs/mine \
#     --set replays=4 --set epochs=20
# ```
#
# Then AutoAttack, and every row of the small table, with the curve of robust accuracy
# against training time:
#
# ```shell
# keras-free-adv evaluate runs/cifar10_small_free8 --attacks=autoattack \
#     --examples=500
# python examples/reproduce_table.py --table=cifar10 --scale=small --monitor_every=5
# ```
#
# The paper's own training, on all GPUs of a machine (in half precision, which the
# authors did not use), or on several machines (with TF_CONFIG set, on each):
#
# ```shell
# keras-free-adv train --recipe=cifar10_wrn32_10_free8 --strategy=mirrored \
#     --set policy=mixed_float16
# keras-free-adv train --recipe=cifar10_wrn32_10_free8 --strategy=multi_worker \
#     --output=/shared/run1
# ```
#
# What was measured, and on what, is in [results](../results.md); which rows were never
# trained to the end here, in [recipes](../recipes.md).
#
# ## What to take along
#
# - Write a run down as data (`recipes.get(...).replaced(...)`), and keep it beside the
#   result; `keras-free-adv train` does.
# - Count in updates. A replay is one; schedules and epochs mean what they always mean.
# - Train in half precision if your hardware has it; measure in float32.
# - Watch robust accuracy on images that are not the final test.
# - `BackupAndRestore` last, and a stop costs no more than the updates since the last
#   backup.
# - Report an interval, the attack, and how often you trained.
#
# Next: [serve it](5_serve_it.ipynb).
