# %% [markdown]
# # 3. Can you trust that number?
#
# A robust accuracy is an upper bound: a better attack can only lower it. Most published
# defenses that fell were measured by attacks that failed for a silly reason. We build a
# model that looks robust and is not, see through it, and learn what to report.
#
# Runs from top to bottom in two minutes on a laptop; no download. Install, in a
# checkout of the repository: `pip install ".[examples]"`.

# %%
import warnings

import keras

from keras_free_adv import (
    AutoAttack,
    FreeAdversarialModel,
    PGDAttack,
    SquareAttack,
    datasets,
    evaluate_robustness,
)

keras.utils.set_random_seed(0)
EPSILON = 0.16
EPOCHS = 30

train = datasets.load("digits", split="train", batch_size=64)
test = datasets.load("digits", split="test", batch_size=360)
images, labels = (part.numpy() for part in next(iter(test)))
loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# Right, and said in each report; here it would be said ten times.
warnings.filterwarnings("ignore", "Only .* examples were evaluated")


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def measured(model, *attacks):
    report = evaluate_robustness(model, (images, labels), list(attacks), verbose=0)
    return {name: f"{share:.1%}" for name, share in report.accuracy.items()}


natural = network()
natural.compile("adam", loss_of)
natural.fit(train, epochs=EPOCHS, shuffle=False, verbose=0)
robust = FreeAdversarialModel(network(), EPSILON, step_size=EPSILON / 4, replays=4)
robust.compile("adam", loss_of)
robust.fit(train, epochs=2 * EPOCHS, verbose=0)

pgd = PGDAttack(EPSILON, steps=20, step_size=EPSILON / 4, seed=0)
print(f"natural: {measured(natural, pgd)}")
print(f"Free m=4: {measured(robust, pgd)}")

# %% [markdown]
# ## A weak attack
#
# The natural model under attacks that are legal, have been published with, and are
# weak: one step, steps that are too short to cross the ball, too few steps.

# %%
weak = [
    PGDAttack(EPSILON, steps=1, step_size=EPSILON / 20, seed=0, name="one short step"),
    PGDAttack(EPSILON, steps=5, step_size=EPSILON / 50, seed=0, name="5 short steps"),
    pgd,
]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # we look at the doubts below
    print(measured(natural, *weak))

# %% [markdown]
# Nothing about the model has changed. The library says what it doubts:

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    report = evaluate_robustness(natural, (images, labels), weak[:1], verbose=0)
for doubt in report.warnings:
    print("-", doubt)

# %% [markdown]
# ## A model that hides its gradients
#
# Multiply the logits by a thousand: the classes are the same, and so is the robustness.
# But the cross-entropy of a saturated softmax has no gradient in floating point, and an
# attack that follows it walks nowhere. This is *gradient masking*.

# %%
masked = keras.Sequential([natural, keras.layers.Rescaling(1000.0)])
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    report = evaluate_robustness(masked, (images, labels), [pgd], verbose=0)
print(f"{report.accuracy['pgd20']:.1%} under PGD-20")
for doubt in report.warnings:
    print("-", doubt)

# %% [markdown]
# Attacks that do not climb the cross-entropy see through it: the margin loss of Carlini
# and Wagner, which does not saturate, and Square, which needs no gradient at all.

# %%
square = SquareAttack(EPSILON, queries=300, seed=0)
margin = PGDAttack(
    EPSILON, steps=20, step_size=EPSILON / 4, loss="cw_margin", seed=0, name="cw20"
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    print(measured(masked, pgd, margin, square))

# %% [markdown]
# ## The standard: AutoAttack
#
# Four attacks that fail in different ways, each run on what is still standing (Croce
# and Hein 2020): APGD with the cross-entropy, targeted APGD with the DLR loss, which
# does not depend on the scale of the logits, targeted FAB, and Square. No parameters to
# choose. On 100 images, to be quick:

# %%
standard = AutoAttack(EPSILON, seed=0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for name, model in {"masked": masked, "Free m=4": robust}.items():
        report = evaluate_robustness(
            model, (images, labels), [standard], max_examples=100, verbose=0
        )
        weaker = evaluate_robustness(
            model, (images, labels), [pgd], max_examples=100, verbose=0
        )
        print(
            f"{name}: {report.accuracy['autoattack']:.0%} under AutoAttack, "
            f"{weaker.accuracy['pgd20']:.0%} under PGD-20"
        )

# %% [markdown]
# ## What to report
#
# - The norm, epsilon and the pixel scale; the attack with steps, step size, restarts
#   and loss; the number of images, and an interval. `print(report)` and
#   `report.to_json()` have all of them.
# - The *worst case* over several attacks, counted image by image.
# - AutoAttack, and what you would try against your own defense.
#
# Next: [CIFAR-10, seriously](4_cifar10_seriously.ipynb), and [serve
# it](5_serve_it.ipynb), where a step before the network hides the gradients.
