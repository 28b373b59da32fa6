"""One method's training: begun, or gone on with, or read from its folder."""

import json
import shutil
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_free_adv import files
from keras_free_adv.attacks.pgd_attack import PGDAttack
from keras_free_adv.callbacks.backup_and_restore import BackupAndRestore
from keras_free_adv.callbacks.epoch_seconds import EpochSeconds
from keras_free_adv.callbacks.robustness_evaluation import RobustnessEvaluation
from keras_free_adv.comparison.methods import Method

WEIGHTS, HISTORY, BACKUP = "network.weights.h5", "history.json", "backup"

History = dict[str, list[float]]


def compiled_network(build_model: Callable[[], Any]) -> keras.Model:
    """A network made anew.

    Raises:
        TypeError, ValueError: `build_model` makes no compiled Keras model.
    """
    network = build_model()
    if not isinstance(network, keras.Model):
        raise TypeError(
            "Argument `build_model` must return a keras.Model. Received: "
            f"{type(network).__name__}."
        )
    if not network.compiled or network.optimizer is None:
        raise ValueError(
            "Argument `build_model` must return a compiled model: its loss and "
            "optimizer are those of every method. Received: a model that is not. Call "
            "model.compile(...) in it, as for `fit`."
        )
    return network


def identity_of(network: keras.Model) -> str:
    """What tells a compiled network from another: layers, optimizer and loss."""
    layers = [
        f"{type(layer).__name__} {layer.count_params() if layer.built else None}"
        for layer in network.layers
    ]
    config = _optimizer_of(network).get_config()
    config.pop("name", None)  # Keras numbers them
    loss = getattr(network.loss, "get_config", lambda: str(network.loss))()
    text = json.dumps([layers, config, loss], default=str)
    return f"{zlib.crc32(text.encode()):08x}"


def _optimizer_of(network: keras.Model) -> keras.optimizers.Optimizer:
    """The user's; under mixed_float16 Keras has wrapped it, to scale the loss."""
    return getattr(network.optimizer, "inner_optimizer", network.optimizer)


def wrapped(build_model: Callable[[], Any], method: Method, updates: int) -> Any:
    """A network made anew, in its wrapper, with the loss and optimizer it came with.

    A learning rate that is a number falls along a cosine to zero over the updates; a
    schedule is the user's own.
    """
    network = compiled_network(build_model)
    config = keras.optimizers.serialize(_optimizer_of(network))
    rate = config["config"]["learning_rate"]
    if isinstance(rate, (int, float)):
        schedule = keras.optimizers.schedules.CosineDecay(float(rate), updates)
        config["config"]["learning_rate"] = keras.saving.serialize_keras_object(
            schedule
        )
    model = method(network)
    model.compile(
        keras.optimizers.deserialize(config), network.loss, metrics=["accuracy"]
    )
    return model


def trained(
    make: Callable[[], Any],
    data: Mapping[str, Any],
    looked_at: Any,
    attack: PGDAttack,
    *,
    epochs: int,
    steps_per_epoch: int,
    folder: Path,
    verbose: Any,
) -> tuple[keras.Model, History]:
    """The trained network, and what each epoch logged.

    Args:
        make: makes the wrapped and compiled model, the same each time.
        data: the arguments of `fit` that hold the data.
        looked_at: (images, labels) to attack after each epoch.
        attack: what they are attacked with.
        epochs: so many.
        steps_per_epoch: updates of each.
        folder: where the training is kept.
        verbose: as of `fit`.
    """
    model = make()
    if (folder / HISTORY).exists():
        model.model(keras.ops.convert_to_tensor(looked_at[0][:1]))  # builds it
        model.model.load_weights(folder / WEIGHTS)
        _make_savable(model.model)
        return model.model, json.loads((folder / HISTORY).read_text())
    backup = BackupAndRestore(folder / BACKUP, delete_checkpoint=False)  # type: ignore[arg-type]
    look = RobustnessEvaluation(looked_at, attack, max_examples=len(looked_at[0]))
    with warnings.catch_warnings():
        # For the curve few have to do; all else that is doubtful is said.
        warnings.filterwarnings("ignore", "Only .* examples were evaluated")
        history = model.fit(
            **data,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            callbacks=[EpochSeconds(), look, backup],
            verbose=verbose,
        ).history
    with files.atomic_write(folder / WEIGHTS) as beside:
        model.model.save_weights(beside)
    files.write_text(folder / HISTORY, json.dumps(history))
    shutil.rmtree(folder / BACKUP, ignore_errors=True)
    _make_savable(model.model)
    return model.model, history


def _make_savable(network: keras.Model) -> None:
    """Builds the network's own optimizer: Keras warns when it loads one unbuilt."""
    network.optimizer.build(network.trainable_variables)
