"""Builds the training of a recipe: data, network, method, optimizer, loss.

    train = building.data(recipe, recipe.train_split, seed=0)
    network = building.network(recipe, train)
    model = building.compiled(recipe, network)
    model.fit(train, epochs=recipe.epochs, steps_per_epoch=recipe.steps_per_epoch)

`network` is the model to serve, whatever the method.
"""

from collections.abc import Callable
from typing import Any

import keras

from keras_free_adv import datasets, zoo
from keras_free_adv.attacks.pgd_attack import PGDAttack
from keras_free_adv.evaluation.paper_attacks import paper_attacks
from keras_free_adv.optimizers.muon import Muon
from keras_free_adv.recipes.linear_cycle import LinearCycle
from keras_free_adv.recipes.recipe import Recipe
from keras_free_adv.training.free_adversarial_model import FreeAdversarialModel
from keras_free_adv.training.natural_model import NaturalModel
from keras_free_adv.training.pgd_adversarial_model import PGDAdversarialModel
from keras_free_adv.training.trades_model import TRADESModel
from keras_free_adv.zoo.pixels import standardized_channels

# Per channel, pixels in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

_METHODS: dict[str, Callable[..., keras.Model]] = {
    "free": FreeAdversarialModel,
    "pgd": PGDAdversarialModel,
    "trades": TRADESModel,
}


def data(
    recipe: Recipe,
    split: str,
    *,
    seed: int = 0,
    data_dir: str | None = None,
) -> Any:
    """A split of the recipe's data set, a `tf.data.Dataset`.

    It is augmented if it is the training split.
    """
    trains = split == recipe.train_split
    return datasets.load(
        recipe.dataset,
        split=split,
        batch_size=recipe.batch_size,
        augment=recipe.augment if trains else "none",
        one_hot=trains and recipe.label_smoothing > 0,
        drop_remainder=trains and recipe.drop_remainder,
        seed=seed,
        data_dir=data_dir,
    )


def network(
    recipe: Recipe,
    train: Any = None,
    *,
    classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    policy: str | None = None,
) -> keras.Model:
    """The recipe's classifier: pixels in [0, 1] in, logits in float32 out.

    Args:
        recipe: the recipe.
        train: its data, with the number of classes and the shape of an image.
        classes: the number of classes, if there is no `train`.
        input_shape: the shape of an image, if there is no `train`.
        policy: dtype policy in place of the recipe's; "float32" for evaluation.

    Returns:
        A functional model, new, with fresh weights.
    """
    if train is not None:
        classes = train.classes
        input_shape = tuple(train.element_spec[0].shape[1:])
    if classes is None or input_shape is None:
        raise ValueError(
            "Argument `train` must be the data, or `classes` and `input_shape` be "
            "given. Received neither."
        )
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy or recipe.policy)
    try:
        return _network(recipe, classes, input_shape)
    finally:
        keras.config.set_dtype_policy(before)


def _network(
    recipe: Recipe, classes: int, input_shape: tuple[int, int, int]
) -> keras.Model:
    arguments: dict[str, Any] = {"classes": classes, "input_shape": input_shape}
    library, _, name = recipe.model.rpartition(".")
    if not library:
        return getattr(zoo, name)(**recipe.model_arguments, **arguments)
    inputs = keras.Input(input_shape, name="image")
    x = standardized_channels((0.0, 1.0), IMAGENET_MEAN, IMAGENET_DEVIATION)(inputs)
    backbone = getattr(keras.applications, name)(
        weights=None,
        classifier_activation=None,
        **recipe.model_arguments,
        **arguments,
    )
    x = zoo.fused(backbone)(x)
    # Logits in half precision are too coarse for a loss.
    outputs = keras.layers.Activation("linear", dtype="float32", name="logits")(x)
    return keras.Model(inputs, outputs, name=name.lower())


def compiled(
    recipe: Recipe,
    network: keras.Model,
    value_range: tuple[float, float] | None = None,
) -> keras.Model:
    """The network, wrapped for its method and compiled.

    Natural training has a wrapper too: what differs from row to row is the method, and
    not how minibatches are drawn or an interrupted training goes on. `value_range` is
    that of the network's pixels; None for what its first layers show.
    """
    decay_weights(recipe, network)
    if recipe.method == "natural":
        model = NaturalModel(network, value_range=value_range)
    else:
        model = _METHODS[recipe.method](
            network,
            recipe.training_epsilon or recipe.epsilon,
            norm=recipe.norm,
            value_range=value_range,
            epsilon_warmup_steps=recipe.epsilon_warmup_steps,
            **recipe.method_arguments,
        )
    model.compile(optimizer(recipe), loss(recipe, network), metrics=["accuracy"])
    return model


def ends_in_softmax(network: keras.Model) -> bool:
    """Whether it returns probabilities, as a network of the user's may."""
    last: Any = network
    while isinstance(last, keras.Model):
        last = last.layers[-1]
    of_a_layer = getattr(last, "activation", None) is keras.activations.softmax
    return of_a_layer or isinstance(last, keras.layers.Softmax)


def decay_weights(recipe: Recipe, network: keras.Model) -> None:
    """Adds (weight_decay / 2) * sum of squares to the network's loss.

    The authors do the same. The `weight_decay` of a Keras optimizer is different: it is
    decoupled from the gradient.
    """
    for variable in network.trainable_variables:
        if recipe.decayed == "all" or len(variable.shape) > 1:
            # Keras' L2 has no factor one half.
            l2 = keras.regularizers.L2(recipe.weight_decay / 2)
            variable.regularizer = l2 if recipe.weight_decay else None


def optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """The recipe's optimizer, with its schedule and momentum.

    Keras' SGD multiplies the velocity by the learning rate, the authors' frameworks do
    not: after a drop the two differ for the few updates that the velocity remembers.
    """
    average: dict[str, Any] = {}
    if recipe.ema_momentum is not None:
        average = {"use_ema": True, "ema_momentum": recipe.ema_momentum}
    rate = learning_rate(recipe)
    if recipe.optimizer == "muon":
        dtype = "bfloat16" if recipe.policy == "mixed_bfloat16" else "float32"
        return Muon(rate, recipe.momentum, ns_dtype=dtype, **average)
    return keras.optimizers.SGD(rate, recipe.momentum, **average)


def learning_rate(recipe: Recipe) -> Any:
    """The learning rate: a number, or a schedule over the updates of the recipe."""
    peak, schedules = recipe.learning_rate, keras.optimizers.schedules
    if recipe.schedule == "piecewise":
        # In Keras a boundary is the last update before the drop.
        return schedules.PiecewiseConstantDecay(
            [drop - 1 for drop in recipe.drops],
            [peak * 0.1**n for n in range(len(recipe.drops) + 1)],
        )
    if recipe.schedule == "cosine":
        return schedules.CosineDecay(peak, recipe.updates)
    if recipe.schedule == "cyclic":
        return LinearCycle(peak, recipe.updates, recipe.rise)
    return peak


def loss(recipe: Recipe, network: keras.Model) -> keras.losses.Loss:
    """The cross-entropy, of logits or of probabilities, as the network returns them."""
    from_logits = not ends_in_softmax(network)
    if recipe.label_smoothing:
        return keras.losses.CategoricalCrossentropy(
            from_logits=from_logits, label_smoothing=recipe.label_smoothing
        )
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


def attacks(recipe: Recipe) -> list[PGDAttack]:
    """The attacks of the paper's table, at the recipe's epsilon and norm.

    A step is a quarter of epsilon long, as in the paper: 2/255 for CIFAR at 8/255.
    """
    return [
        PGDAttack.from_config(
            {
                **attack.get_config(),
                "epsilon": recipe.epsilon,
                "step_size": recipe.epsilon / 4,
                "norm": recipe.norm,
            }
        )
        for attack in paper_attacks(recipe.attacks)
    ]
