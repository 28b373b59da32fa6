"""A killed `fit` goes on where it stopped."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_free_adv import keras_internals, validation
from keras_free_adv.callbacks.averaged_weights import AveragedWeights
from keras_free_adv.callbacks.backups import Backup, Backups, discarded
from keras_free_adv.callbacks.callback_state import (
    callback_state,
    fits_json,
    plain,
    restore_callback_state,
)
from keras_free_adv.distribution import workers
from keras_free_adv.training.adversarial_model import AdversarialModel
from keras_free_adv.user_warnings import warn_user

# In the config of an adversarial model, what says nothing of its training.
_OF_EVERY_MODEL = ("name", "trainable", "dtype", "model")


@keras.saving.register_keras_serializable("keras_free_adv")
class BackupAndRestore(keras.callbacks.Callback):
    """Keras' callback of this name, made safe for adversarial training.

    Start the same program again after a kill, and `fit` continues: weights, optimizer,
    delta, place in the data, the metrics history, and the best-so-far of
    ModelCheckpoint and EarlyStopping are those of the last backup, bit for bit. A
    backup is a folder, written beside and renamed: a kill while one is written leaves
    the one before. When training ends, the backups are deleted. Weights that are not
    finite are never backed up: the last good backup stays, and is kept when training
    ends so.

    Put it last in the list of callbacks, so that what the others did in an epoch is
    in the backup.

    On many machines each worker has this callback; the first one writes, and all go on
    from what it wrote. With another number of devices a run goes on too, with its delta
    shared out anew; it is then not bit for bit the same.

    Args:
        backup_dir: folder for the backups of this training only; on many machines one
            that all of them see.
        save_freq: "epoch", or save after every so many updates. With a plain Keras
            model an epoch that was interrupted begins anew; an adversarial model
            continues within it.
        delete_checkpoint: whether to delete the backups when training ends.

    Raises:
        ValueError: a wrong argument; or, when training begins, a backup that is
            damaged or of another model.
        OSError: a backup cannot be written: the disk is full, say. The one before, and
            the model, are as they were.
        RuntimeError: when training begins, workers that see different backups.

    Example:
    >>> import tempfile
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3, activation="softmax")])
    >>> model = FreeAdversarialModel(network, epsilon=0.1, replays=2)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> backup = BackupAndRestore(tempfile.mkdtemp())
    >>> images, labels = np.random.rand(64, 4, 4, 1), np.random.randint(0, 3, 64)
    >>> history = model.fit(images, labels, epochs=2, callbacks=[backup], verbose=0)
    """

    def __init__(
        self,
        backup_dir: str,
        *,
        save_freq: str | int = "epoch",
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(backup_dir, (str, Path)) or not str(backup_dir):
            raise ValueError(
                "Argument `backup_dir` must be the path of a folder. Received: "
                f"backup_dir={backup_dir!r}."
            )
        if Path(backup_dir).is_file():
            raise ValueError(
                "Argument `backup_dir` must be a folder. Received: "
                f"backup_dir={str(backup_dir)!r}, which is a file."
            )
        if not isinstance(save_freq, str) or save_freq != "epoch":
            save_freq = validation.positive_integer(
                "save_freq", save_freq, 'Or pass "epoch".'
            )
        self.backup_dir = Path(backup_dir)
        self.save_freq = save_freq
        self.delete_checkpoint = validation.boolean(
            "delete_checkpoint", delete_checkpoint
        )
        self._backups = Backups(self.backup_dir)
        self._to_restore: Backup | None = None
        self._keep = False
        self._had_stopped = False
        self._warned_of_history = False
        self._counters: dict[str, list[Any]] = {}
        self._epochs: list[int] = []
        self._epoch = 0
        self._updates_since_backup = 0
        self._last_batch = -1

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "backup_dir": str(self.backup_dir),
            "save_freq": self.save_freq,
            "delete_checkpoint": self.delete_checkpoint,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "BackupAndRestore":
        """Makes the callback from `get_config()`."""
        return cls(**config)

    @property
    def epoch(self) -> int:
        """The epoch at which a `fit` started now would go on; 0 without a backup."""
        return self._backups.metadata["epoch"] if self._backups.latest else 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the latest backup, if there is one."""
        self._keep = self._had_stopped = False
        self._epochs = []
        self._check_callbacks()
        self._check_all_see(self._backups.latest)
        if self._writes:
            self._backups.prepare()
        if not self._backups.latest:
            return
        backup = self._backups.read()
        if not self.model.built:
            raise ValueError(
                "A model must be built before its backup can be restored. Received: "
                f"{self.model.name!r}, which is not. Give it a keras.Input, or call it "
                "on a batch, before `fit`."
            )
        self._check_is_of_this_model(backup)
        self._warn_of_other_steps(backup)
        optimizer = self.model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        try:
            self.model.load_weights(backup.weights)
        except ValueError as error:
            raise self._of_another(str(error)) from error
        epoch, epochs = backup.metadata["epoch"], (self.params or {}).get("epochs")
        if backup.metadata["stopped"] and not backup.metadata["batch"] and epochs:
            epoch = epochs  # a callback had stopped the training
        keras_internals.start_at_epoch(self.model, epoch)
        self.model.history.history.update(backup.metadata["history"])
        self._to_restore = backup
        if epochs is not None and epoch >= epochs:
            self._restore(backup)  # there is no epoch left to begin

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Restores, once, what other callbacks reset when training began."""
        self._epoch = epoch
        self._last_batch = -1
        if self._to_restore is not None:
            self._restore(self._to_restore)

    def _restore(self, backup: Backup) -> None:
        self._to_restore = None
        metadata, arrays = backup.metadata, backup.arrays
        self._epochs = metadata["epochs"]
        self.model.history.epoch = list(self._epochs)
        restore_callback_state(self._beside(), metadata["callbacks"], arrays)
        self._assign("state", arrays)
        self._counters = metadata["checkpoint_counters"]
        place = getattr(self.model, "_position", None)
        if place is None or not metadata["batch"]:
            self._give_counters_back()
            return
        place.skip = metadata["batch"]
        self._had_stopped = metadata["stopped"]
        self.model.build_metrics()
        mine, its = _described(self.model.metrics_variables), metadata["metrics"]
        if mine != its:
            raise self._of_another(f"its metrics: {its}; this model's: {mine}")
        self._assign("metric", arrays)
        for number in self._counters:
            keras_internals.silence_checkpoint(self._beside()[int(number)])

    def _give_counters_back(self) -> None:
        callbacks = self._beside()
        for number, counters in self._counters.items():
            if int(number) < len(callbacks) and isinstance(
                callbacks[int(number)], keras.callbacks.ModelCheckpoint
            ):
                keras_internals.set_checkpoint_counters(
                    callbacks[int(number)], counters
                )
        self._counters = {}

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Saves, if `save_freq` counts updates and it is time."""
        skipping = getattr(getattr(self.model, "_position", None), "skip", 0)
        if self._counters and not skipping:
            self._give_counters_back()
        if self._had_stopped and not skipping:
            self._had_stopped, self.model.stop_training = False, True
        if not isinstance(self.save_freq, int):
            return
        self._updates_since_backup += batch - self._last_batch
        self._last_batch = batch
        due = self._updates_since_backup >= self.save_freq and not skipping
        if due and not self._was_stopped_by(logs):
            self._updates_since_backup = 0
            self._save(self._epoch, batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves, if `save_freq` is "epoch"."""
        if self._was_stopped_by(logs):
            self._keep_the_last("The training was stopped at a loss that is not finite")
        elif self.save_freq == "epoch":
            self._save(epoch + 1, 0, epoch, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Deletes the backups, unless training has ended badly."""
        keras_internals.start_at_epoch(self.model, None)
        if not self.model.history.epoch:  # of no new epoch the old ones are forgotten
            self.model.history.epoch = list(self._epochs)
        with self._weights_in_training():
            self._check_weights_are_finite()
        if self.delete_checkpoint and self._writes and not self._keep:
            self._backups.delete()

    def _save(
        self,
        epoch: int,
        batch: int,
        ended: int | None = None,
        logs: dict[str, Any] | None = None,
    ) -> None:
        """Writes one backup: `epoch` and `batch` are where to go on."""
        with self._weights_in_training():
            if self._check_weights_are_finite():
                self._write(epoch, batch, ended, logs)

    def _was_stopped_by(self, logs: dict[str, Any] | None) -> bool:
        """Whether the loss has stopped the training, as TerminateOnNaN does.

        In half precision the weights may still be finite: bad updates are skipped.
        """
        loss = (logs or {}).get("loss", 0.0)
        return self.model.stop_training and not np.isfinite(loss).all()

    def _write(
        self,
        epoch: int,
        batch: int,
        ended: int | None,
        logs: dict[str, Any] | None,
    ) -> None:
        history = self.model.history
        entries = {name: list(values) for name, values in history.history.items()}
        epochs = list(history.epoch)
        if ended is not None and ended not in epochs:
            # The History callback comes after this one.
            epochs.append(ended)
            for name, value in (logs or {}).items():
                entries.setdefault(name, []).append(value)
        beside = self._beside()
        states, arrays = callback_state(beside)
        metadata = {
            "epoch": epoch,
            "batch": batch,
            "stopped": bool(self.model.stop_training),
            "epochs": epochs,
            "history": self._as_json(entries),
            "callbacks": states,
            "checkpoint_counters": {
                str(number): keras_internals.checkpoint_counters(callback)
                for number, callback in enumerate(beside)
                if isinstance(callback, keras.callbacks.ModelCheckpoint)
            },
            "model": _identity(self.model),
            "steps": (self.params or {}).get("steps"),
            "metrics": _described(self.model.metrics_variables),
        }
        arrays |= self._beside_the_weights()
        # Some of what is saved has to be gathered from all workers.
        with (
            self._backups.write(metadata, arrays) if self._writes else discarded()
        ) as path:
            self.model.save_weights(path)

    def _as_json(self, history: dict[str, list[Any]]) -> dict[str, list[Any]]:
        entries = {name: plain(values) for name, values in history.items()}
        foreign = [name for name, values in entries.items() if not fits_json(values)]
        if foreign and not self._warned_of_history:
            self._warned_of_history = True
            warn_user(
                f"The logs {foreign} are no numbers: a backup cannot hold them, and "
                "they will be missing from the history after a restart."
            )
        return {n: values for n, values in entries.items() if n not in foreign}

    def _check_weights_are_finite(self) -> bool:
        """Whether they are; if not, warns once, and the last good backup is kept."""
        variables = [*self.model.weights]
        if self.model.optimizer is not None:
            variables += self.model.optimizer.variables
        finite = all(
            np.isfinite(np.asarray(keras.ops.convert_to_numpy(v), "float32")).all()
            for v in variables
            if keras.backend.is_float_dtype(v.dtype)
        )
        if not finite:
            self._keep_the_last("The weights of the model are not finite")
        return finite

    def _keep_the_last(self, reason: str) -> None:
        """Keeps the last good backup when training ends, and says so, once."""
        if self._keep:
            return
        self._keep = True
        kept = f"the last good backup, in {str(self.backup_dir)!r}, is kept"
        warn_user(
            f"{reason}: this state is not backed up, and "
            f"{kept if self._backups.latest else 'there is no good backup yet'}. Stop "
            "(keras.callbacks.TerminateOnNaN does); then mend the data, and run again "
            "to go on from there, or start anew with a lower learning rate."
        )

    @property
    def _writes(self) -> bool:
        """Whether this is the worker that writes."""
        return workers.worker_number(self.model.distribute_strategy) == 0

    def _check_callbacks(self) -> None:
        for callback in self._beside():
            if getattr(callback, "swap_on_epoch", False) and isinstance(
                callback, keras.callbacks.SwapEMAWeights
            ):
                raise ValueError(
                    "BackupAndRestore cannot go beside keras.callbacks.SwapEMAWeights("
                    "swap_on_epoch=True): the averages would be backed up in the place "
                    "of the weights. Use keras_free_adv.AveragedWeights."
                )

    def _check_all_see(self, backup: int) -> None:
        workers.require_same(
            backup,
            self.model.distribute_strategy,
            "Argument `backup_dir` must be a folder that all workers see. Received: "
            f"backup_dir={str(self.backup_dir)!r}, in which the workers see the "
            "backups {found} (0 for none). Use a shared file system.",
        )

    def _check_is_of_this_model(self, backup: Backup) -> None:
        for what, mine in _identity(self.model).items():
            its = backup.metadata["model"].get(what)
            if its != mine:
                raise self._of_another(f"its {what}: {its}; this model's: {mine}")

    def _warn_of_other_steps(self, backup: Backup) -> None:
        if not hasattr(self.model, "_position"):
            return  # a plain model begins its epoch anew
        its, mine = backup.metadata.get("steps"), (self.params or {}).get("steps")
        if None not in (its, mine) and its != mine:
            warn_user(
                f"The backup in {str(self.backup_dir)!r} is of a training of {its} "
                f"updates an epoch, and this one makes {mine}: the place in the data "
                "is counted in updates, so that other minibatches follow. Use the same "
                "data and batch size, or remove the folder to start anew."
            )

    def _of_another(self, reason: str) -> ValueError:
        return ValueError(
            f"The backup in {str(self.backup_dir)!r} does not fit this model: it is "
            f"another model's or training's ({reason}). Remove the folder to start "
            "anew, or pass another `backup_dir`."
        )

    @contextlib.contextmanager
    def _weights_in_training(self) -> Iterator[None]:
        """Within, no callback keeps other weights in the model for evaluation."""
        with contextlib.ExitStack() as stack:
            for callback in self._beside():
                if isinstance(callback, AveragedWeights):
                    stack.enter_context(callback.training_weights())
            yield

    def _variables_beside(self) -> dict[str, list[Any]]:
        """Variables that `save_weights` leaves out.

        The states of random layers, such as Dropout, and what the metrics have
        counted in this epoch.
        """
        return {
            "state": self.model.non_trainable_variables,
            "metric": self.model.metrics_variables,
        }

    def _beside_the_weights(self) -> dict[str, np.ndarray]:
        """Their values, each also as the replicas have it: they may differ."""
        strategy = self.model.distribute_strategy
        arrays = {}
        for kind, variables in self._variables_beside().items():
            for number, variable in enumerate(variables):
                name = f"{kind}.{number}"
                arrays[name] = keras.ops.convert_to_numpy(variable)
                if strategy.num_replicas_in_sync > 1:
                    local = strategy.experimental_local_results(variable.value)
                    arrays[f"{name}.replicas"] = workers.gathered(local, strategy)
        return arrays

    def _assign(self, kind: str, arrays: dict[str, np.ndarray]) -> None:
        strategy = self.model.distribute_strategy
        for number, variable in enumerate(self._variables_beside()[kind]):
            name = f"{kind}.{number}"
            of_replicas = arrays.get(f"{name}.replicas")
            if of_replicas is not None and len(of_replicas) == (
                strategy.num_replicas_in_sync
            ):
                local = strategy.experimental_local_results(variable.value)
                values = workers.of_this_worker(of_replicas, strategy)
                for one, value in zip(local, values, strict=True):
                    one.assign(value)
            else:
                variable.assign(arrays[name])

    def _beside(self) -> list[keras.callbacks.Callback]:
        return [c for c in keras_internals.callbacks_of_this_fit() if c is not self]


def _identity(model: keras.Model) -> dict[str, Any]:
    """What tells a model's backup from those of others, as JSON has it."""
    optimizer = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", None)  # of a LossScaleOptimizer
    optimizers = [type(one).__name__ for one in (optimizer, inner) if one]
    # Of an adversarial model: epsilon, replays and the like, as JSON has them.
    config = model.get_config() if isinstance(model, AdversarialModel) else {}
    settings = {n: v for n, v in config.items() if n not in _OF_EVERY_MODEL}
    return {
        "class": type(model).__name__,
        "settings": json.loads(json.dumps(settings)),
        "optimizer": " of ".join(optimizers),
        "shapes of weights": [list(weight.shape) for weight in model.weights],
        "states": _described(model.non_trainable_variables),
    }


def _described(variables: list[Any]) -> list[list[Any]]:
    """Names and shapes, without the numbers that Keras gives to namesakes."""
    return [
        [re.sub(r"_\d+(?=/|$)", "", variable.path), list(variable.shape)]
        for variable in variables
    ]
