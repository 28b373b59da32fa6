import contextlib
import errno
import os
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import (
    BackupAndRestore,
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    RobustnessEvaluation,
)
from tests.conftest import from_logits, small_images, small_network

pytestmark = pytest.mark.filterwarnings("ignore:This run ends after")

# Trains eight epochs; with `die` it kills itself after that epoch's backup.
PROGRAM = textwrap.dedent(
    """
    import os, signal, sys, warnings
    warnings.simplefilter("ignore")
    import keras, numpy as np, tensorflow as tf
    import keras_free_adv
    from keras_free_adv import BackupAndRestore
    from tests.conftest import from_logits, small_images, small_network

    folder, out, method, freq, die = sys.argv[1:]
    tf.config.experimental.enable_op_determinism()
    # The second start has another seed: the backup must bring its own.
    keras.utils.set_random_seed(2 if die == "second" else 1)
    network = keras.Sequential([
        keras.Input((6, 6, 1)), keras.layers.Conv2D(4, 3),
        keras.layers.BatchNormalization(), keras.layers.ReLU(),
        keras.layers.Dropout(0.2, seed=3),
        keras.layers.Flatten(), keras.layers.Dense(3)])
    model = {
        "free": lambda: keras_free_adv.FreeAdversarialModel(network, 0.1, replays=4),
        "pgd": lambda: keras_free_adv.PGDAdversarialModel(network, 0.1, steps=2),
    }[method]()
    model.compile(keras.optimizers.Adam(0.01), from_logits(), metrics=["accuracy"])
    images, labels = small_images(43)

    class Die(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.batches = 0
        def on_epoch_end(self, epoch, logs=None):
            if die == "first" and freq == "epoch" and epoch == 4:
                os.kill(os.getpid(), signal.SIGKILL)
        def on_train_batch_end(self, batch, logs=None):
            self.batches += 1
            if die == "first" and freq != "epoch" and self.batches == 27:
                os.kill(os.getpid(), signal.SIGKILL)

    checkpoint = keras.callbacks.ModelCheckpoint(
        folder + "/best.keras", monitor="loss", save_best_only=True)
    stopping = keras.callbacks.EarlyStopping(
        monitor="loss", patience=50, restore_best_weights=False)
    backup = BackupAndRestore(
        folder + "/backup", save_freq=freq if freq == "epoch" else int(freq))
    history = model.fit(images, labels, batch_size=8, epochs=8, verbose=0,
                        callbacks=[checkpoint, stopping, backup, Die()])
    assert not os.path.exists(folder + "/backup")
    arrays = {f"weight{i}": w for i, w in enumerate(model.get_weights())}
    arrays |= {f"opt{i}": v.numpy() for i, v in enumerate(model.optimizer.variables)}
    arrays |= {f"history_{k}": v for k, v in history.history.items()}
    if method == "free":
        arrays["delta"] = model.delta
    np.savez(out, best=[checkpoint.best, stopping.best], wait=stopping.wait,
             epoch=history.epoch, place=model._place.ask(), **arrays)
    """
)


def run(tmp_path, name, method, freq, die):
    folder = tmp_path / name.split(":")[0]
    folder.mkdir(exist_ok=True)
    out = tmp_path / f"{name.replace(':', '-')}.npz"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(out), method, freq, die],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended, out


@pytest.mark.parametrize(
    ("method", "freq"), [("free", "epoch"), ("pgd", "epoch"), ("free", "5")]
)
def test_a_run_killed_and_started_again_ends_with_the_same_bits(tmp_path, method, freq):
    killed, _ = run(tmp_path, "run:1", method, freq, "first")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again, resumed = run(tmp_path, "run:2", method, freq, "second")
    assert again.returncode == 0, again.stderr
    whole, straight = run(tmp_path, "whole", method, freq, "never")
    assert whole.returncode == 0, whole.stderr
    resumed, straight = np.load(resumed), np.load(straight)
    assert set(resumed) == set(straight)
    for name in straight:
        np.testing.assert_array_equal(resumed[name], straight[name], err_msg=name)


@pytest.mark.parametrize("seed", [7, None])
@pytest.mark.parametrize("at_epoch", [1, 5])
def test_a_pipeline_of_the_users_own_goes_on_if_its_shuffle_has_a_seed(
    tmp_path, seed, at_epoch
):
    """Its order in a new process: that of a new dataset object."""
    images, labels = small_images(43)

    def fit(folder, stops_at=None):
        keras.utils.set_random_seed(5)  # of a shuffle without a seed of its own
        data = (
            tf.data.Dataset.from_tensor_slices((images, labels))
            .shuffle(43, seed=seed)
            .batch(8)
            .map(lambda x, y: (x[:, ::-1], y))
            .prefetch(2)
        )
        model = FreeAdversarialModel(small_network(), 0.1, replays=2)
        model.compile("adam", from_logits())

        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == stops_at:
                    raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            model.fit(
                data, epochs=8, verbose=0, callbacks=[BackupAndRestore(folder), Stop()]
            )
        return model

    fit(tmp_path / "a", at_epoch)
    resumed, straight = fit(tmp_path / "a"), fit(tmp_path / "b")
    assert int(resumed.optimizer.iterations) == 48
    for one, other in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


class Items(keras.utils.PyDataset):
    def __init__(self, images, labels):
        super().__init__()
        self.parts = images, labels

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return tuple(part[8 * i : 8 * i + 8] for part in self.parts)


def test_a_py_dataset_goes_on_in_its_order(tmp_path):
    def fit(folder, seed, stops_at=None):
        keras.utils.set_random_seed(5)
        network = small_network()
        keras.utils.set_random_seed(
            seed
        )  # another one, for the backup to bring its own
        model = FreeAdversarialModel(network, 0.1, replays=2)
        model.compile("adam", from_logits())

        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == stops_at:
                    raise KeyboardInterrupt

        callbacks = [BackupAndRestore(folder), Stop()]
        data = Items(*small_images(43))
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(data, epochs=8, verbose=0, callbacks=callbacks)
        return model

    fit(tmp_path / "a", 1, stops_at=5)
    resumed, straight = fit(tmp_path / "a", 2), fit(tmp_path / "b", 1)
    for one, other in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(resumed.delta, straight.delta)


def test_keras_own_callback_restores_delta_and_the_place_too(tmp_path):
    images, labels = small_images(40)

    def fit(folder, stops=None, **kwargs):
        keras.utils.set_random_seed(5)
        model = FreeAdversarialModel(small_network(), 0.1, replays=4)
        model.compile("adam", from_logits())
        callbacks = [keras.callbacks.BackupAndRestore(folder)]
        if stops:
            callbacks.append(stops)
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(
                images, labels, batch_size=8, epochs=6, verbose=0, callbacks=callbacks
            )
        return model

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    fit(tmp_path / "a", Stop())
    resumed, straight = fit(tmp_path / "a"), fit(tmp_path / "b")
    np.testing.assert_array_equal(resumed.delta, straight.delta)
    assert int(resumed.optimizer.iterations) == 30


def interrupted(model, folder, at_epoch, **fit):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == at_epoch:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(callbacks=[BackupAndRestore(folder), Stop()], verbose=0, **fit)


def test_a_plain_keras_model_goes_on_at_its_epoch(tmp_path):
    images, labels = small_images(16)
    data = {"x": images, "y": labels, "epochs": 5}
    model = small_network()
    model.compile("sgd", from_logits())
    interrupted(model, tmp_path / "backup", 2, **data)
    again = small_network()
    again.compile("sgd", from_logits())
    backup = BackupAndRestore(tmp_path / "backup")
    assert backup.epoch == 2
    history = again.fit(**data, callbacks=[backup], verbose=0)
    assert history.epoch == [0, 1, 2, 3, 4]
    assert len(history.history["loss"]) == 5
    assert not (tmp_path / "backup").exists()
    # A second fit starts at its own beginning.
    assert again.fit(**data, verbose=0).epoch == [0, 1, 2, 3, 4]


@pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")
def test_what_other_callbacks_know_is_kept_if_it_can_be(tmp_path):
    """RobustnessEvaluation every two epochs logs its last value in between."""

    class Foreign(keras.callbacks.Callback):
        best = {"a set"}  # noqa: RUF012 (nothing that a file could hold)
        wait = 3

    images, labels = small_images(120)
    evaluation = [(images, labels), PGDAttack(0.05, steps=1, seed=0)]

    def fit(folder, *more, epochs=4):
        keras.utils.set_random_seed(0)
        model = small_network()
        model.compile("sgd", from_logits())
        robust = RobustnessEvaluation(*evaluation, every=2)
        callbacks = [Foreign(), robust, BackupAndRestore(folder), *more]
        return model.fit(
            images, labels, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks
        )

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "a", Stop())
    assert fit(tmp_path / "a").history == fit(tmp_path / "b").history


def test_it_is_serializable_with_its_arguments(tmp_path):
    backup = BackupAndRestore(str(tmp_path), save_freq=7, delete_checkpoint=False)
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(backup)
    )
    assert copy.get_config() == backup.get_config()


def test_a_half_written_backup_is_ignored(tmp_path):
    folder = tmp_path / "backup"
    images, labels = small_images(16)
    model = small_network()
    model.compile("sgd", from_logits())
    interrupted(model, folder, 2, x=images, y=labels, epochs=5)
    half = folder / ".backup-9-half"
    half.mkdir()
    (half / "model.weights.h5").write_bytes(b"half")
    assert BackupAndRestore(folder).epoch == 2


def test_a_backup_of_another_model_is_refused(tmp_path):
    images, labels = small_images(16)
    model = PGDAdversarialModel(small_network(), 0.1, steps=1)
    model.compile("sgd", from_logits())
    interrupted(model, tmp_path / "b", 1, x=images, y=labels, epochs=5)
    other = PGDAdversarialModel(small_network(classes=5), 0.1, steps=1)
    other.compile("sgd", from_logits())
    backup = BackupAndRestore(tmp_path / "b")
    with pytest.raises(ValueError, match=r"another model's.*shapes.*5\]"):
        other.fit(images, labels, callbacks=[backup], verbose=0)
    # The same network, trained in another way.
    other = FreeAdversarialModel(small_network(), 0.1, replays=2)
    other.compile("sgd", from_logits())
    with pytest.raises(ValueError, match="PGDAdversarialModel.*FreeAdversarialModel"):
        other.fit(images, labels, callbacks=[backup], verbose=0)
    other = PGDAdversarialModel(small_network(), 0.1, steps=1)
    other.compile("adam", from_logits())
    with pytest.raises(ValueError, match="optimizer: SGD; this model's: Adam"):
        other.fit(images, labels, callbacks=[backup], verbose=0)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_the_future(path):
    path.write_text(path.read_text().replace('version": 1', 'version": 99'))


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("model.weights.h5", cut, "damaged: model.weights.h5 is not what was written"),
        ("model.weights.h5", flip, "damaged: model.weights.h5 is not what"),
        ("model.weights.h5", lambda path: path.unlink(), "model.weights.h5 cannot be"),
        ("arrays.npz", cut, "damaged: arrays.npz is not what was written"),
        ("arrays.npz", flip, "damaged: arrays.npz is not what was written"),
        ("metadata.json", cut, "damaged: metadata.json cannot be read"),
        ("metadata.json", lambda path: path.unlink(), "metadata.json cannot be read"),
        ("metadata.json", of_the_future, "its format is 99, and this one reads 1"),
    ],
)
def test_a_damaged_backup_is_refused_and_kept(tmp_path, name, harm, message):
    images, labels = small_images(16)

    def model():
        model = PGDAdversarialModel(small_network(), 0.1, steps=1)
        model.compile("sgd", from_logits())
        return model

    interrupted(model(), tmp_path, 1, x=images, y=labels, epochs=5)
    harm(tmp_path / "backup-1" / name)
    before = sorted(path.name for path in (tmp_path / "backup-1").iterdir())
    again = model()
    weights = again.get_weights()
    with pytest.raises(ValueError, match=f"backup-1.*{message}"):
        again.fit(images, labels, callbacks=[BackupAndRestore(tmp_path)], verbose=0)
    for now, one in zip(again.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, one)
    assert sorted(path.name for path in (tmp_path / "backup-1").iterdir()) == before


def test_leftovers_of_killed_writers_go(tmp_path):
    for name in (".backup-3-abcd1234", ".backup-12-x_yz9876", "mine", ".mine-12345678"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_bytes(b"half")
    images, labels = small_images(16)
    model = small_network()
    model.compile("sgd", from_logits())
    model.fit(images, labels, callbacks=[BackupAndRestore(tmp_path)], verbose=0)
    assert {path.name for path in tmp_path.iterdir()} == {"mine", ".mine-12345678"}


def test_a_full_disk_leaves_the_backup_before_and_the_model(tmp_path, monkeypatch):
    images, labels = small_images(16)
    model = FreeAdversarialModel(small_network(), 0.1, replays=2)
    model.compile("sgd", from_logits())
    whole, save = [], np.savez

    def savez(file, **arrays):
        whole.append(file)
        if len(whole) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, **arrays)

    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(OSError, match="backup-3.*No space left.*untouched.*Free some"):
        model.fit(
            images,
            labels,
            epochs=6,
            callbacks=[BackupAndRestore(tmp_path)],
            verbose=0,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["backup-2"]
    weights, delta = model.get_weights(), model.delta
    # Space is made, and the same model goes on: from the backup.
    history = model.fit(
        images, labels, epochs=6, callbacks=[BackupAndRestore(tmp_path)], verbose=0
    )
    assert history.epoch == [0, 1, 2, 3, 4, 5]
    assert np.isfinite(delta).all()
    assert all(np.isfinite(weight).all() for weight in weights)


def test_weights_that_are_not_finite_are_not_backed_up(tmp_path):
    images, labels = small_images(16)
    model = small_network()
    model.compile(keras.optimizers.SGD(0.1), from_logits())

    class Poison(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.optimizer.learning_rate = np.nan

    callbacks = [keras.callbacks.TerminateOnNaN(), BackupAndRestore(tmp_path)]
    with pytest.warns(UserWarning, match="not finite.*not backed up.*is kept"):
        model.fit(
            images,
            labels,
            epochs=9,
            batch_size=8,
            callbacks=[Poison(), *callbacks],
            verbose=0,
        )
    backup = BackupAndRestore(tmp_path)
    assert backup.epoch == 2
    again = small_network()
    again.compile(keras.optimizers.SGD(0.01), from_logits())
    again.fit(images, labels, epochs=9, callbacks=[backup], verbose=0)
    assert all(np.isfinite(weight).all() for weight in again.get_weights())
    assert not tmp_path.exists()


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_float16"])
def test_low_precision_is_kept_bit_for_bit(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    images, labels = small_images(24)

    def fit(folder, at_epoch=None):
        keras.utils.set_random_seed(1)
        network = small_network()
        network.add(keras.layers.BatchNormalization())
        model = FreeAdversarialModel(network, 0.1, replays=2)
        model.compile("adam", from_logits())
        stopping = keras.callbacks.EarlyStopping(
            monitor="loss", patience=99, restore_best_weights=True
        )

        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == at_epoch:
                    raise KeyboardInterrupt

        callbacks = [stopping, BackupAndRestore(folder), Stop()]
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(
                images,
                labels,
                batch_size=8,
                epochs=6,
                callbacks=callbacks,
                verbose=0,
            )
        return model

    fit(tmp_path / "a", at_epoch=3)
    resumed, whole = fit(tmp_path / "a"), fit(tmp_path / "b")
    for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_backups_can_be_kept(tmp_path):
    images, labels = small_images(16)
    model = small_network()
    model.compile("sgd", from_logits())
    backup = BackupAndRestore(tmp_path / "b", delete_checkpoint=False)
    model.fit(images, labels, epochs=2, callbacks=[backup], verbose=0)
    assert backup.epoch == 2
    assert len(list((tmp_path / "b").iterdir())) == 1
