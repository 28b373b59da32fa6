# %% [markdown]
# # 1. Why your classifier breaks
#
# A classifier with 96% accuracy fails on images that you still read without trouble. We
# build the attacks that show it, from scratch, and then use the library's.
#
# Runs from top to bottom in a minute on a laptop; no download. Install, in a checkout
# of the repository: `pip install ".[examples]"`.

# %%
import keras
import numpy as np
import tensorflow as tf

from keras_free_adv import PGDAttack, datasets, evaluate_robustness
from keras_free_adv.plotting import plot_adversarial_examples

keras.utils.set_random_seed(0)

# %% [markdown]
# ## A classifier
#
# scikit-learn's digits: 8x8 gray images, pixels in [0, 1]. Nothing about the network is
# special.

# %%
train = datasets.load("digits", split="train", batch_size=64)
test = datasets.load("digits", split="test", batch_size=360)
images, labels = (part.numpy() for part in next(iter(test)))

model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10),
    ]
)
loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss_of, metrics=["accuracy"])
model.fit(train, epochs=20, shuffle=False, verbose=0)  # `train` shuffles itself
accuracy = model.evaluate(images, labels, verbose=0)[1]
print(f"Accuracy on 360 test images: {accuracy:.1%}")

# %% [markdown]
# ## One step uphill: FGSM
#
# Training follows the gradient of the loss with respect to the *weights*, downhill. The
# same backward pass has the gradient with respect to the *image*: it says how to change
# each pixel so that the loss rises. The fast gradient sign method (Goodfellow et al.
# 2015) moves every pixel by `epsilon` in that direction. No pixel changes by more: the
# change stays inside the L-infinity ball of radius `epsilon`.

# %%
EPSILON = 0.16  # of pixels in [0, 1]


def input_gradient(x, y):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = loss_of(y, model(x, training=False))
    return tape.gradient(loss, x).numpy()


def fgsm(x, y):
    return np.clip(x + EPSILON * np.sign(input_gradient(x, y)), 0, 1)


def accuracy_on(x):
    return np.mean(model.predict(x, verbose=0).argmax(-1) == labels)


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
# (They are others than above, so that the figure may differ by an image or two.)

# %%
attack = PGDAttack(EPSILON, steps=20, step_size=EPSILON / 4, seed=0)
print(evaluate_robustness(model, (images, labels), [attack], verbose=0))

# %% [markdown]
# The report comes with intervals: 360 images determine these accuracies to 2 to 4
# percentage points. Now look at what the attack adds, and at what the model sees.

# %%
figure = plot_adversarial_examples(model, images[:6], labels[:6], attack)
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
