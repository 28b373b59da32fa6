"""A killed `fit` goes on where it stopped."""

import contextlib
import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_free_adv import files, keras_internals, validation, workers
from keras_free_adv.callbacks.averaged_weights import AveragedWeights

# What Keras' callbacks, and ours, learn while they run.
_LEARNED = (
    "averaged_statistics",
    "best",
    "best_epoch",
    "best_weights",
    "cooldown_counter",
    "epochs_since_last_save",
    "last_accuracy",
    "stopped_epoch",
    "wait",
)
_ARRAYS = "keras_free_adv: arrays"
_BACKUP = re.compile(r"backup-(\d+)")


@keras.saving.register_keras_serializable("keras_free_adv")
class BackupAndRestore(keras.callbacks.Callback):
    """Keras' callback of this name, made safe for adversarial training.

    Start the same program again after a kill, and `fit` continues: weights, optimizer,
    delta, place in the data, the metrics history, and the best-so-far of
    ModelCheckpoint and EarlyStopping are those of the last backup, bit for bit. A
    backup is a folder, written beside and renamed: a kill while one is written leaves
    the one before. When training ends, the backups are deleted.

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
        ValueError: a wrong argument; or, when training begins, a backup of another
            model.
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
        if save_freq != "epoch":
            save_freq = validation.positive_integer(
                "save_freq", save_freq, 'Or pass "epoch".'
            )
        self.backup_dir = Path(backup_dir)
        self.save_freq = save_freq
        self.delete_checkpoint = validation.boolean(
            "delete_checkpoint", delete_checkpoint
        )
        self._to_restore: dict[str, Any] = {}
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
        backup = self._latest()
        return 0 if backup is None else _metadata(backup)["epoch"]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the latest backup, if there is one."""
        backup = self._latest()
        self._check_all_see(backup)
        if backup is None:
            return
        metadata = _metadata(backup)
        if not self.model.built:
            raise ValueError(
                "A model must be built before its backup can be restored. Received: "
                f"{self.model.name!r}, which is not. Give it a keras.Input, or call it "
                "on a batch, before `fit`."
            )
        optimizer = self.model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        try:
            self.model.load_weights(backup / "model.weights.h5")
        except ValueError as error:
            raise ValueError(
                f"The backup in {str(self.backup_dir)!r} does not fit this model: it "
                "is another model's. Remove the folder to start anew, or pass another "
                f"`backup_dir`. ({error})"
            ) from error
        keras_internals.start_at_epoch(self.model, metadata["epoch"])
        self.model.history.history.update(metadata["history"])
        self._to_restore = {**metadata, "folder": backup}
        if metadata["epoch"] >= (self.params or {}).get("epochs", math.inf):
            self._restore()  # there is no epoch left to begin

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Restores, once, what other callbacks reset when training began."""
        self._epoch = epoch
        self._last_batch = -1
        if self._to_restore:
            self._restore()

    def _restore(self) -> None:
        metadata, self._to_restore = self._to_restore, {}
        self.model.history.epoch = list(metadata["epochs"])
        with np.load(metadata["folder"] / "arrays.npz", allow_pickle=False) as file:
            arrays = dict(file)
        _restore_learned(self._beside(), metadata["callbacks"], arrays)
        self._assign("state", arrays)
        place = getattr(self.model, "_place", None)
        if place is not None and metadata["batch"]:
            place.skip = metadata["batch"]
            self.model.build_metrics()
            self._assign("metric", arrays)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Saves, if `save_freq` counts updates and it is time."""
        if not isinstance(self.save_freq, int):
            return
        self._updates_since_backup += batch - self._last_batch
        self._last_batch = batch
        skipping = getattr(getattr(self.model, "_place", None), "skip", 0)
        if self._updates_since_backup >= self.save_freq and not skipping:
            self._updates_since_backup = 0
            self._save(self._epoch, batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves, if `save_freq` is "epoch"."""
        if self.save_freq == "epoch":
            self._save(epoch + 1, 0, epoch, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Deletes the backups."""
        keras_internals.start_at_epoch(self.model, None)
        if self.delete_checkpoint and self._writes:
            for backup in self._all():
                shutil.rmtree(backup, ignore_errors=True)
            if self.backup_dir.exists() and not any(self.backup_dir.iterdir()):
                self.backup_dir.rmdir()

    def _save(
        self,
        epoch: int,
        batch: int,
        ended: int | None = None,
        logs: dict[str, Any] | None = None,
    ) -> None:
        """Writes one backup: `epoch` and `batch` are where to go on."""
        with self._weights_in_training():
            self._write(epoch, batch, ended, logs)

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
        learned, arrays = _learned(self._beside())
        for kind, variables in self._beside_the_weights().items():
            for number, variable in enumerate(variables):
                arrays[f"{kind}.{number}"] = keras.ops.convert_to_numpy(variable)
        before = self._all()
        number = 1 + max((_number(backup) for backup in before), default=0)
        with self._written(number) as folder:
            self.model.save_weights(folder / "model.weights.h5")
            np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
            (folder / "metadata.json").write_text(
                json.dumps(
                    {
                        "epoch": epoch,
                        "batch": batch,
                        "epochs": epochs,
                        "history": _plain(entries),
                        "callbacks": learned,
                    }
                )
            )
        for backup in before if self._writes else ():
            shutil.rmtree(backup, ignore_errors=True)

    @property
    def _writes(self) -> bool:
        """Whether this is the worker that writes."""
        return workers.worker_number(self.model.distribute_strategy) == 0

    def _written(self, number: int) -> contextlib.AbstractContextManager[Any]:
        """A folder to write the backup to.

        Some of what is saved has to be gathered from all workers: the others write
        too, to a folder that is thrown away.
        """
        if self._writes:
            return files.folder_written_beside(self.backup_dir / f"backup-{number}")
        return _thrown_away()

    def _check_all_see(self, backup: Path | None) -> None:
        workers.require_same(
            0 if backup is None else _number(backup),
            self.model.distribute_strategy,
            "Argument `backup_dir` must be a folder that all workers see. Received: "
            f"backup_dir={str(self.backup_dir)!r}, in which the workers see the "
            "backups {found} (0 for none). Use a shared file system.",
        )

    @contextlib.contextmanager
    def _weights_in_training(self) -> Iterator[None]:
        """Within, no callback keeps other weights in the model for evaluation."""
        with contextlib.ExitStack() as stack:
            for callback in self._beside():
                if isinstance(callback, AveragedWeights):
                    stack.enter_context(callback.training_weights())
            yield

    def _beside_the_weights(self) -> dict[str, list[Any]]:
        """Variables that `save_weights` leaves out.

        The states of random layers, such as Dropout, and what the metrics have
        counted in this epoch.
        """
        return {
            "state": self.model.non_trainable_variables,
            "metric": self.model.metrics_variables,
        }

    def _assign(self, kind: str, arrays: Any) -> None:
        for number, variable in enumerate(self._beside_the_weights()[kind]):
            variable.assign(arrays[f"{kind}.{number}"])

    def _beside(self) -> list[keras.callbacks.Callback]:
        return [c for c in keras_internals.callbacks_of_this_fit() if c is not self]

    def _all(self) -> list[Path]:
        if not self.backup_dir.is_dir():
            return []
        return [p for p in self.backup_dir.iterdir() if _BACKUP.fullmatch(p.name)]

    def _latest(self) -> Path | None:
        return max(self._all(), key=_number, default=None)


@contextlib.contextmanager
def _thrown_away() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _number(backup: Path) -> int:
    found = _BACKUP.fullmatch(backup.name)
    return int(found.group(1)) if found else 0


def _metadata(backup: Path) -> dict[str, Any]:
    return json.loads((backup / "metadata.json").read_text())


def _plain(value: Any) -> Any:
    """Turns NumPy scalars and arrays in `value` into what JSON holds exactly."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic))


def _fits_json(value: Any) -> bool:
    """Whether it is a plain value; another library's callback may hold anything."""
    if isinstance(value, dict):
        return all(isinstance(k, str) and _fits_json(v) for k, v in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def _learned(
    callbacks: list[keras.callbacks.Callback],
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """What each callback learned: plain values, and arrays by name."""
    states: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for position, callback in enumerate(callbacks):
        values: dict[str, Any] = {}
        for name in _LEARNED:
            if not hasattr(callback, name):
                continue
            value = getattr(callback, name)
            if isinstance(value, list) and all(map(_is_array, value)):
                for number, array in enumerate(value):
                    arrays[f"{position}.{name}.{number}"] = np.asarray(array)
                values[name] = {_ARRAYS: len(value)}
            elif _fits_json(_plain(value)):
                values[name] = _plain(value)
        states.append({"class": type(callback).__name__, "values": values})
    return states, arrays


def _restore_learned(
    callbacks: list[keras.callbacks.Callback],
    states: list[dict[str, Any]],
    arrays: Any,
) -> None:
    for position, (callback, state) in enumerate(zip(callbacks, states, strict=False)):
        if type(callback).__name__ != state["class"]:
            continue  # the list of callbacks was changed
        for name, value in state["values"].items():
            if isinstance(value, dict) and _ARRAYS in value:
                value = [
                    arrays[f"{position}.{name}.{number}"]
                    for number in range(value[_ARRAYS])
                ]
            setattr(callback, name, value)
