"""What every backend must compute alike: trainings, and attacks on a saved model.

`python -m tests.backends.reference FOLDER` writes it for the backend in use.
"""

import sys
from pathlib import Path

import keras
import numpy as np

import keras_free_adv as kfa

EPSILON = 0.05
TRAINERS = {
    "free": (kfa.FreeAdversarialModel, {"replays": 4}),
    "free_l2": (kfa.FreeAdversarialModel, {"replays": 4, "norm": "l2"}),
    "pgd": (kfa.PGDAdversarialModel, {"steps": 3}),
    # In L2: next to the images the divergence is flat, and signs are all rounding.
    "trades": (kfa.TRADESModel, {"steps": 3, "norm": "l2"}),
}
EXAMPLES = 200


def data(count=61):
    """Images and labels; 61 leave a short last minibatch of 13."""
    generator = np.random.default_rng(3)
    images = generator.random((count, 8, 8, 1)).astype("float32")
    return images, generator.integers(0, 5, count)


def network(batch_norm=False):
    """A small network without kinks; its weights are drawn by NumPy."""
    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="tanh")]
    if batch_norm:
        layers.append(keras.layers.BatchNormalization(momentum=0.5))
    model = keras.Sequential(
        [*layers, keras.layers.Flatten(), keras.layers.Dense(5, name="logits")]
    )
    generator = np.random.default_rng(0)
    for layer in (model.layers[0], model.layers[-1]):
        layer.set_weights(
            [
                (0.3 * generator.normal(size=w.shape)).astype("float32")
                for w in layer.get_weights()
            ]
        )
    return model


def trainer(name, model):
    kind, arguments = TRAINERS[name]
    made = kind(model, EPSILON, **arguments)
    made.stream_position.seed = 7
    made.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return made


def weights_of(model):
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


def forty_updates(name):
    """Weights, delta (or nothing) and the losses of the epochs."""
    model = trainer(name, network())
    history = model.fit(*data(), batch_size=16, epochs=10, verbose=0)
    delta = getattr(model, "delta", None)
    return {
        "weights": weights_of(model.model),
        "delta": np.zeros(0) if delta is None else delta,
        "loss": np.array(history.history["loss"]),
        "accuracy": np.array(history.history["accuracy"]),
    }


def states(name, updates=8):
    """The state before and after each of a few updates, with batch norm."""
    model = trainer(name, network(batch_norm=True))
    images, labels = data(16)
    found = {}
    model.train_on_batch(images, labels)
    for update in range(updates):
        found[f"{update}.before"] = weights_of(model.model)
        found[f"{update}.momentum"] = momentum_of(model)
        if name.startswith("free"):
            found[f"{update}.delta"] = model.delta
        model.train_on_batch(images, labels)
    found[f"{updates}.before"] = weights_of(model.model)
    if name.startswith("free"):
        found[f"{updates}.delta"] = model.delta
    return found


def momentum_of(model):
    variables = model.optimizer.variables[2:]
    return np.concatenate(
        [keras.ops.convert_to_numpy(v.value).ravel() for v in variables]
    )


def attacks():
    """Short ones, of every kind and norm."""
    own = {"epsilon": 0.1, "seed": 5}
    l2 = {"epsilon": 0.8, "seed": 5, "norm": "l2"}
    return [
        kfa.PGDAttack(**own, restarts=2),
        kfa.PGDAttack(**own, loss="cw_margin", keep="last"),
        kfa.PGDAttack(**l2, name="pgd_l2"),
        kfa.APGDAttack(**own, steps=20),
        kfa.APGDAttack(**own, steps=20, loss="targeted_dlr", targets=3),
        kfa.APGDAttack(**l2, steps=20, name="apgd_l2"),
        kfa.FABAttack(**own, steps=15, targets=3),
        kfa.FABAttack(**l2, steps=15, targets=None, name="fab_l2"),
        kfa.SquareAttack(**own, queries=100),
        kfa.SquareAttack(**l2, queries=100, name="square_l2"),
    ]


def auto_attack():
    own = {"epsilon": 0.1, "seed": 5}
    parts = [
        kfa.APGDAttack(**own, steps=15),
        kfa.FABAttack(**own, steps=10, targets=3),
        kfa.SquareAttack(**own, queries=60),
    ]
    return kfa.AutoAttack(0.1, seed=5, attacks=parts)


def robust_model():
    """A network that was trained on digits, and ends with a softmax."""
    images, labels = digits()
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    free = kfa.FreeAdversarialModel(model, 0.1, replays=4)
    free.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    free.fit(images, labels, batch_size=64, epochs=6, verbose=0)
    return model


def digits():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8, 1) / 16).astype("float32"), labels


def verdicts(model, attack):
    """Of the last examples of the digits: right or not, natural and attacked."""
    images, labels = digits()
    held_out = images[-EXAMPLES:], labels[-EXAMPLES:]
    return kfa.evaluate_robustness(
        model, held_out, attack, batch_size=64, verbose=0
    ).robust


def main(folder):
    folder = Path(folder)
    for name in TRAINERS:
        np.savez(folder / f"forty_{name}.npz", **forty_updates(name))
        np.savez(folder / f"states_{name}.npz", **states(name))
    model = robust_model()
    model.save(folder / "robust.keras")
    found = {}
    for attack in [*attacks(), auto_attack()]:
        found.update(verdicts(model, attack))
    np.savez(folder / "verdicts.npz", **found)


if __name__ == "__main__":
    main(sys.argv[1])
