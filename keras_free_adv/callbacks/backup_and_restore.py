"""A killed `fit` continues where it stopped."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_free_adv import keras_internals, renamed_arguments, validation
from keras_free_adv.callbacks.averaged_weights import AveragedWeights
from keras_free_adv.callbacks.backups import Backup, Backups, discarded
from keras_free_adv.callbacks.callback_state import (
    callback_state,
    fits_json,
    model_checkpoints,
    plain,
    restore_callback_state,
)
from keras_free_adv.callbacks.training_identity import (
    names_and_shapes,
    training_identity,
    with_defaults,
)
from keras_free_adv.callbacks.unsaved_variables import assign_unsaved, unsaved_values
from keras_free_adv.distribution import workers
from keras_free_adv.training.stream_position import StreamPosition
from keras_free_adv.training.stream_training import StreamTraining
from keras_free_adv.user_warnings import warn_user


@keras.saving.register_keras_serializable("keras_free_adv")
class BackupAndRestore(keras.callbacks.Callback):
    """Keras' callback of this name, made safe for adversarial training.

    Start the same program again after a kill, and `fit` continues: weights, optimizer,
    delta, position in the data, the metrics history, and the best-so-far of
    ModelCheckpoint and EarlyStopping are those of the last backup, bit for bit. Each
    backup is written to a temporary folder, then renamed: a kill in between leaves the
    previous one. When training ends, the backups are deleted. Weights that are not
    finite are never backed up: if training ends with them, the last good backup stays.

    Put it last in the list of callbacks, so that the backup of an epoch has their state
    after that epoch.

    On many machines each worker has this callback; the first one writes, and all of
    them restore that backup. A run also continues on another number of devices, which
    share delta out anew; it is then not bit for bit the same.

    Args:
        backup_dir: folder for the backups of this training only; on many machines, in
            a file system that they share.
        save_freq: "epoch", or the number of updates between backups. A plain Keras
            model repeats an interrupted epoch from its beginning; an adversarial model
            continues within it.
        delete_checkpoint: whether to delete the backups when training ends.

    Raises:
        ValueError: a wrong argument; or, when training begins, a backup that is
            damaged or of another model.
        OSError: a backup cannot be written, for example because the disk is full. The
            previous one, and the model, are unchanged.
        RuntimeError: when training begins, workers find different backups.

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
        self._others: list[keras.callbacks.Callback] = []  # in the same `fit`
        self._to_restore: Backup | None = None
        self._keep = False
        self._stop_after_skipping = False
        self._warned_of_history = False
        self._checkpoint_counters: dict[str, list[Any]] = {}  # yet to be restored
        self._restored_epochs: list[int] = []
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
        """The epoch at which `fit` would continue; 0 without a backup."""
        return self._backups.metadata["epoch"] if self._backups.latest else 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the latest backup, if there is one."""
        self._keep = self._stop_after_skipping = False
        self._restored_epochs = []
        callbacks = keras_internals.callbacks_of_this_fit()
        self._others = [callback for callback in callbacks if callback is not self]
        self._refuse_swapped_weights()
        self._require_shared_folder()
        if self._writes:
            self._backups.prepare()
        if self._backups.latest:
            self._restore_model(self._backups.read())

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Restores, once, the state that other callbacks reset in `on_train_begin`."""
        self._epoch = epoch
        self._last_batch = -1
        if self._to_restore is not None:
            self._restore_state(self._to_restore)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Saves, if `save_freq` is a number and so many updates were made."""
        skipping = self._position is not None and self._position.skip > 0
        if self._checkpoint_counters and not skipping:
            self._restore_checkpoint_counters()
        if self._stop_after_skipping and not skipping:
            self._stop_after_skipping, self.model.stop_training = False, True
        if not isinstance(self.save_freq, int):
            return
        self._updates_since_backup += batch - self._last_batch
        self._last_batch = batch
        due = self._updates_since_backup >= self.save_freq and not skipping
        if due and not self._stopped_by_loss(logs):
            self._updates_since_backup = 0
            self._save(self._epoch, batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves, if `save_freq` is "epoch"."""
        if self._stopped_by_loss(logs):
            self._keep_last("The training was stopped at a loss that is not finite")
        elif self.save_freq == "epoch":
            self._save(epoch + 1, 0, epoch, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Deletes the backups, unless the weights or the loss are not finite."""
        keras_internals.start_at_epoch(self.model, None)
        if not self.model.history.epoch:  # no epoch was left: keep the restored ones
            self.model.history.epoch = list(self._restored_epochs)
        with self._training_weights():
            self._check_weights()
        if self.delete_checkpoint and self._writes and not self._keep:
            self._backups.delete()
        self._others = []

    # Restoring.

    def _restore_model(self, backup: Backup) -> None:
        """Loads the weights, and makes `fit` begin at the epoch of the backup."""
        if not self.model.built:
            raise ValueError(
                "A model must be built before its backup can be restored. Received: "
                f"{self.model.name!r}, which is not. Give it a keras.Input, or call it "
                "on a batch, before `fit`."
            )
        its = with_defaults(backup.metadata["model"], self.model)
        if its.get("settings") is not None:
            its["settings"] = renamed_arguments.with_new_names(
                its["settings"], renamed_arguments.TRAINING
            )
        self._require_same(its, training_identity(self.model))
        self._warn_of_other_steps(backup)
        optimizer = self.model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        try:
            self.model.load_weights(backup.weights)
        except ValueError as error:
            raise self._mismatch(str(error)) from error
        epoch, epochs = backup.metadata["epoch"], (self.params or {}).get("epochs")
        if backup.metadata["stopped"] and not backup.metadata["batch"] and epochs:
            epoch = epochs  # a callback had stopped the training
        keras_internals.start_at_epoch(self.model, epoch)
        self.model.history.history.update(backup.metadata["history"])
        self._to_restore = backup
        if epochs is not None and epoch >= epochs:
            self._restore_state(backup)  # there is no epoch left to begin

    def _restore_state(self, backup: Backup) -> None:
        """Restores everything but the weights, within an epoch its metrics too."""
        self._to_restore = None
        metadata, arrays = backup.metadata, backup.arrays
        self._restored_epochs = metadata["epochs"]
        self.model.history.epoch = list(self._restored_epochs)
        restore_callback_state(self._others, metadata["callbacks"], arrays)
        assign_unsaved(self.model, "state", arrays)
        self._checkpoint_counters = metadata["checkpoint_counters"]
        position = self._position
        if position is None or not metadata["batch"]:
            self._restore_checkpoint_counters()
            return
        position.skip = metadata["batch"]
        self._stop_after_skipping = metadata["stopped"]
        self.model.build_metrics()
        metrics = names_and_shapes(self.model.metrics_variables)
        self._require_same({"metrics": metadata["metrics"]}, {"metrics": metrics})
        assign_unsaved(self.model, "metric", arrays)
        for index, checkpoint in model_checkpoints(self._others).items():
            if index in self._checkpoint_counters:
                keras_internals.silence_checkpoint(checkpoint)

    def _restore_checkpoint_counters(self) -> None:
        for index, checkpoint in model_checkpoints(self._others).items():
            if index in self._checkpoint_counters:
                counters = self._checkpoint_counters[index]
                keras_internals.set_checkpoint_counters(checkpoint, counters)
        self._checkpoint_counters = {}

    @property
    def _position(self) -> StreamPosition | None:
        """The model's position in its data; a plain Keras model has none."""
        if isinstance(self.model, StreamTraining):
            return self.model.stream_position
        return None

    # Saving.

    def _save(
        self,
        epoch: int,
        batch: int,
        finished_epoch: int | None = None,
        logs: dict[str, Any] | None = None,
    ) -> None:
        """Writes a backup from which `fit` continues at `epoch` and `batch`."""
        with self._training_weights():
            if not self._check_weights():
                return
            states, arrays = callback_state(self._others)
            epochs, history = self._history(finished_epoch, logs)
            metadata = {
                "epoch": epoch,
                "batch": batch,
                "stopped": bool(self.model.stop_training),
                "epochs": epochs,
                "history": history,
                "callbacks": states,
                "checkpoint_counters": {
                    index: keras_internals.checkpoint_counters(checkpoint)
                    for index, checkpoint in model_checkpoints(self._others).items()
                },
                "model": training_identity(self.model),
                "steps": (self.params or {}).get("steps"),
                "metrics": names_and_shapes(self.model.metrics_variables),
            }
            arrays |= unsaved_values(self.model)
            # All workers save: some values have to be gathered from all of them.
            with (
                self._backups.write(metadata, arrays) if self._writes else discarded()
            ) as path:
                self.model.save_weights(path)

    def _history(
        self, finished_epoch: int | None, logs: dict[str, Any] | None
    ) -> tuple[list[int], dict[str, list[Any]]]:
        """The epochs and logs of Keras' History callback, which runs after this one."""
        history = self.model.history
        epochs = list(history.epoch)
        entries = {name: list(values) for name, values in history.history.items()}
        if finished_epoch is not None and finished_epoch not in epochs:
            epochs.append(finished_epoch)
            for name, value in (logs or {}).items():
                entries.setdefault(name, []).append(value)
        entries = {name: plain(values) for name, values in entries.items()}
        foreign = [name for name, values in entries.items() if not fits_json(values)]
        if foreign and not self._warned_of_history:
            self._warned_of_history = True
            warn_user(
                f"The logs {foreign} are not numbers: a backup cannot hold them, and "
                "they will be missing from the history after a restart."
            )
        return epochs, {n: v for n, v in entries.items() if n not in foreign}

    @contextlib.contextmanager
    def _training_weights(self) -> Iterator[None]:
        """Takes averaged weights out of the model for the duration of the block."""
        with contextlib.ExitStack() as stack:
            for callback in self._others:
                if isinstance(callback, AveragedWeights):
                    stack.enter_context(callback.training_weights())
            yield

    @property
    def _writes(self) -> bool:
        """Whether this worker is the one that writes."""
        return workers.worker_number(workers.strategy_of(self.model)) == 0

    # Weights and losses that are not finite.

    def _stopped_by_loss(self, logs: dict[str, Any] | None) -> bool:
        """Whether the loss has stopped the training, as TerminateOnNaN does.

        In half precision the weights may still be finite: bad updates are skipped.
        """
        loss = (logs or {}).get("loss", 0.0)
        return self.model.stop_training and not np.isfinite(loss).all()

    def _check_weights(self) -> bool:
        """Returns whether they are finite; if not, the last good backup is kept."""
        variables = [*self.model.weights]
        if self.model.optimizer is not None:
            variables += self.model.optimizer.variables
        finite = all(
            np.isfinite(np.asarray(keras.ops.convert_to_numpy(v), "float32")).all()
            for v in variables
            if keras.backend.is_float_dtype(v.dtype)
        )
        if not finite:
            self._keep_last("The weights of the model are not finite")
        return finite

    def _keep_last(self, reason: str) -> None:
        """Keeps the last good backup when training ends, and warns, once."""
        if self._keep:
            return
        self._keep = True
        kept = f"the last good backup, in {str(self.backup_dir)!r}, is kept"
        warn_user(
            f"{reason}: this state is not backed up, and "
            f"{kept if self._backups.latest else 'there is no good backup yet'}. Stop "
            "the run (keras.callbacks.TerminateOnNaN does). Then fix the data and run "
            "again to continue from the backup, or start anew with a lower learning "
            "rate."
        )

    # Checks.

    def _refuse_swapped_weights(self) -> None:
        for callback in self._others:
            if getattr(callback, "swap_on_epoch", False) and isinstance(
                callback, keras.callbacks.SwapEMAWeights
            ):
                raise ValueError(
                    "BackupAndRestore cannot be combined with "
                    "keras.callbacks.SwapEMAWeights(swap_on_epoch=True): it would back "
                    "up the averages instead of the weights. Use "
                    "keras_free_adv.AveragedWeights."
                )

    def _require_shared_folder(self) -> None:
        workers.require_same(
            self._backups.latest,
            workers.strategy_of(self.model),
            "Argument `backup_dir` must be a folder that all workers share. Received: "
            f"backup_dir={str(self.backup_dir)!r}, in which the workers find the "
            "backups {found} (0 for none). Use a shared file system.",
        )

    def _require_same(self, its: dict[str, Any], mine: dict[str, Any]) -> None:
        for key, value in mine.items():
            if its.get(key) != value:
                raise self._mismatch(
                    f"its {key}: {its.get(key)}; this model's: {value}"
                )

    def _mismatch(self, reason: str) -> ValueError:
        return ValueError(
            f"The backup in {str(self.backup_dir)!r} does not fit this model: it is "
            f"another model's or training's ({reason}). Remove the folder to start "
            "anew, or pass another `backup_dir`."
        )

    def _warn_of_other_steps(self, backup: Backup) -> None:
        if self._position is None:
            return  # a plain model repeats its epoch
        its, mine = backup.metadata.get("steps"), (self.params or {}).get("steps")
        if None not in (its, mine) and its != mine:
            warn_user(
                f"The backup in {str(self.backup_dir)!r} is of a training of {its} "
                f"updates an epoch, and this one makes {mine}: the position in the "
                "data is counted in updates, so that other minibatches follow. Use the "
                "same data and batch size, or remove the folder to start anew."
            )
