"""Right solutions, as text, and what is made of them by a change."""

import keras
import numpy as np
import tensorflow as tf

PROJECT = """
def project(points, images, epsilon):
    points = np.clip(points, images - epsilon, images + epsilon)
    return np.clip(points, 0, 1)
"""

FGSM = """
def fgsm(images, labels, epsilon, loss_and_gradient):
    _, gradient = loss_and_gradient(images, labels)
    return np.clip(images + epsilon * np.sign(gradient), 0, 1)
"""

PGD = """
def pgd(images, labels, epsilon, loss_and_gradient, steps, step_size, restarts, random):
    worst, largest = images, np.full(len(images), -np.inf)
    for _ in range(restarts):
        noise = random.uniform(-epsilon, epsilon, images.shape)
        points = np.clip(images + noise, 0, 1)
        for _ in range(steps):
            _, gradient = loss_and_gradient(points, labels)
            points = points + step_size * np.sign(gradient)
            points = np.clip(points, images - epsilon, images + epsilon)
            points = np.clip(points, 0, 1)
        loss, _ = loss_and_gradient(points, labels)
        better = loss > largest
        worst = np.where(better[:, None, None, None], points, worst)
        largest = np.where(better, loss, largest)
    return worst
"""

TRAIN_STEP = """
def train_step(network, optimizer, images, labels, delta, epsilon, step_size):
    with tf.GradientTape() as tape:
        tape.watch(delta)
        attacked = tf.clip_by_value(images + delta, 0.0, 1.0)
        loss = loss_of(labels, network(attacked, training=True))
    weights = network.trainable_variables
    gradients, of_delta = tape.gradient(loss, (weights, delta))
    optimizer.apply(gradients, weights)
    delta = delta + step_size * tf.sign(of_delta)
    return tf.clip_by_value(delta, -epsilon, epsilon)
"""

TRAIN = (
    TRAIN_STEP
    + """
def train(network, optimizer, minibatches, epochs, replays, epsilon, step_size):
    delta = tf.zeros_like(minibatches[0][0])
    for _ in range(epochs // replays):
        for images, labels in minibatches:
            for _ in range(replays):
                delta = train_step(
                    network, optimizer, images, labels, delta, epsilon, step_size
                )
    return delta
"""
)


def function(text, *changes):
    """The last function of a text, in which each (old, new) was replaced."""
    for old, new in changes:
        assert text.count(old) == 1, (text.count(old), old)
        text = text.replace(old, new)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    names = {"np": np, "tf": tf, "loss_of": loss_of}
    exec(compile(text, "a student's", "exec"), names)
    return next(reversed(names.values()))
