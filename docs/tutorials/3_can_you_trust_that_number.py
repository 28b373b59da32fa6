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
    PGDAttack,
    SquareAttack,
    datasets,
    evaluate_robustness,
    zoo,
)

EPSILON = 8 / 255

test = datasets.load("cifar10_sample", split="test", batch_size=100)
images, labels = (part.numpy() for part in next(iter(test)))
# Right, and said in each report; here it would be said ten times.
warnings.filterwarnings("ignore", "Only .* examples were evaluated")


def measured(model, *attacks):
    report = evaluate_robustness(model, (images, labels), list(attacks), verbose=0)
    return {name: f"{share:.1%}" for name, share in report.accuracy.items()}


# The same network, trained on CIFAR-10 for the same time: naturally, and by Free
# training. `print(zoo.card("cifar10_compact_free"))` says how.
natural = zoo.pretrained("cifar10_compact_natural")
robust = zoo.pretrained("cifar10_compact_free")

pgd = PGDAttack(EPSILON, steps=20, step_size=EPSILON / 4, seed=0)
print(f"natural: {measured(natural, pgd)}")
print(f"robust: {measured(robust, pgd)}")

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
# choose. On 30 images, to be quick:

# %%
standard = AutoAttack(EPSILON, seed=0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for name, model in {"masked": masked, "robust": robust}.items():
        report = evaluate_robustness(
            model, (images, labels), [standard], max_examples=30, verbose=0
        )
        weaker = evaluate_robustness(
            model, (images, labels), [pgd], max_examples=30, verbose=0
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
