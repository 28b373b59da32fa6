# %% [markdown]
# # 1. Why your classifier breaks
#
# A classifier that reads nine of ten photographs reads none of them after a change that
# you cannot see. We build the attacks that show it, from scratch, and then use the
# library's.
#
# Runs from top to bottom in a minute on a laptop; no download. Install, in a checkout
# of the repository: `pip install ".[examples]"`.

# %%
import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv import PGDAttack, datasets, evaluate_robustness, zoo
from keras_free_adv.plotting import plot_adversarial_examples

keras.utils.set_random_seed(0)
# Right, and said in each report: here a hundred have to do.
warnings.filterwarnings("ignore", "Only .* examples were evaluated")

# %% [markdown]
# ## A classifier
#
# A small ResNet, trained on CIFAR-10 as networks usually are; nothing about it is
# special. It comes with the library, and so do 100 test images, ten of each class:
# 32x32 pixels, in [0, 1].

# %%
test = datasets.load("cifar10_sample", split="test", batch_size=100)
images, labels = (part.numpy() for part in next(iter(test)))
names = test.class_names

model = zoo.pretrained("cifar10_compact_natural")  # pixels in, logits out
loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def accuracy_on(x):
    return np.mean(model.predict(x, verbose=0).argmax(-1) == labels)


print(f"Accuracy on 100 test images: {accuracy_on(images):.1%}")

# %% [markdown]
# ## One step uphill: FGSM
#
# Training follows the gradient of the loss with respect to the *weights*, downhill. The
# same backward pass has the gradient with respect to the *image*: it says how to change
# each pixel so that the loss rises. The fast gradient sign method (Goodfellow et al.
# 2015) moves every pixel by `epsilon` in that direction. No pixel changes by more: the
# change stays inside the L-infinity ball of radius `epsilon`.

# %%
EPSILON = 8 / 255  # of pixels in [0, 1]: 8 of 255 levels


def input_gradient(x, y):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = loss_of(y, model(x, training=False))
    return tape.gradient(loss, x).numpy()


def fgsm(x, y):
    return np.clip(x + EPSILON * np.sign(input_gradient(x, y)), 0, 1)


print(f"FGSM: {accuracy_on(fgsm(images, labels)):.1%}")

# %% [markdown]
# ## Many small steps: PGD
#
# The loss is not a plane, and one long step overshoots. Projected gradient descent
# (Madry et al. 2018) starts at a random point of the ball, takes short steps, and after
# each comes back into the ball, which for L-infinity is a clip of each pixel.


# %%
def pgd(x, y, steps=20, step_size=EPSILON / 4, seed=0):
    random = np.random.default_rng(seed)
    delta = random.uniform(-EPSILON, EPSILON, x.shape).astype("float32")
    for _ in range(steps):
        attacked = np.clip(x + delta, 0, 1)
        delta = delta + step_size * np.sign(input_gradient(attacked, y))
        delta = np.clip(delta, -EPSILON, EPSILON)  # back into the ball
    return np.clip(x + delta, 0, 1)


print(f"PGD-20: {accuracy_on(pgd(images, labels)):.1%}")

# %% [markdown]
# That is all an attack is. The *robust accuracy* is the share of images that no
# perturbation in the ball fools. Nobody can try all of them; each attack gives an upper
# bound.
#
# ## The library's attacks
#
# The same attack, compiled, with the details that matter in numbers you report: it
# never returns a weaker image than it found on its way, looks through a softmax that
# saturates, takes restarts, and draws random numbers that do not depend on the batch.

# %%
attack = PGDAttack(EPSILON, steps=20, step_size=EPSILON / 4, seed=0)
print(evaluate_robustness(model, (images, labels), [attack], verbose=0))

# %% [markdown]
# The report comes with intervals: what 100 images can say, and no more. Now look at
# what the attack adds to the first images that the model reads correctly, and at what
# it sees then.

# %%
right = model.predict(images, verbose=0).argmax(-1) == labels
shown = np.flatnonzero(right)[:6]
figure = plot_adversarial_examples(
    model, images[shown], labels[shown], attack, class_names=names
)
figure

# %% [markdown]
# ## It need not be so
#
# The same network, trained for the same time by the method of this library. It reads
# fewer photographs, but the attack takes much less away. Its perturbations look
# different too: to fool it, they must change what is in the picture. These are the
# first images that both models read correctly.

# %%
robust = zoo.pretrained("cifar10_compact_free")
right &= robust.predict(images, verbose=0).argmax(-1) == labels
shown = np.flatnonzero(right)[:6]
print(evaluate_robustness(robust, (images, labels), [attack], verbose=0))
figure = plot_adversarial_examples(
    {"natural": model, "robust": robust},
    images[shown],
    labels[shown],
    attack,
    class_names=names,
)
figure

# %% [markdown]
# ## What to take along
#
# - The gradient that trains a network also breaks it.
# - An attack is gradient ascent on the image, projected into a ball that you choose.
# - Report the attack, epsilon, the pixel scale, and the number of images; a weak attack
#   makes any model look robust ([tutorial 3](3_can_you_trust_that_number.ipynb)).
#
# Next: [how to train a model that holds](2_adversarial_training_for_free.ipynb), at the
# cost of ordinary training.
