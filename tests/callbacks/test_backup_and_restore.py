import contextlib
import errno
import json
import signal
import textwrap
import warnings

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
from tests import forked
from tests.conftest import by_hand, from_logits, small_images, small_network

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
             epoch=history.epoch, place=model.stream_position.current(), **arrays)
    """
)


def run(tmp_path, name, method, freq, die, **settings):
    folder = tmp_path / name.split(":")[0]
    folder.mkdir(exist_ok=True)
    out = tmp_path / f"{name.replace(':', '-')}.npz"
    words = (PROGRAM, folder, out, method, freq, die)
    return forked.python("-c", *words, **settings), out


@pytest.mark.parametrize(
    ("method", "freq"), [("free", "epoch"), by_hand("pgd", "epoch"), ("free", "5")]
)
def test_a_run_killed_and_started_again_ends_with_the_same_bits(tmp_path, method, freq):
    killed, _ = run(tmp_path, "run:1", method, freq, "first")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # In a process with other hashes, as that of a user who starts it again.
    again, resumed = run(tmp_path, "run:2", method, freq, "second", forks=False)
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
        robust = RobustnessEvaluation(*evaluation, evaluation_freq=2)
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
    path.write_text(path.read_text().replace('version": 2', 'version": 99'))


def of_the_past(path):
    path.write_text(json.dumps({"epoch": 1, "batch": 0}))


def with_another_epoch(path):
    text = path.read_text()
    assert '"epoch": 1' in text
    path.write_text(text.replace('"epoch": 1', '"epoch": 0'))


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
        ("metadata.json", of_the_future, "its format is 99, and this one reads 2"),
        ("metadata.json", of_the_past, "written by another release.*None"),
        ("metadata.json", with_another_epoch, "metadata.json is not what was written"),
        ("metadata.json", lambda path: path.write_text("[1]"), "is not what was wri"),
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
    mine = {"mine", ".mine-12345678", ".backup-3-20240101"}
    left = {f".backup-{n}.being-written-x_yz9876" for n in (3, 12)}
    for name in mine | left:
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_bytes(b"half")
    images, labels = small_images(16)
    model = small_network()
    model.compile("sgd", from_logits())
    model.fit(images, labels, callbacks=[BackupAndRestore(tmp_path)], verbose=0)
    assert {path.name for path in tmp_path.iterdir()} == mine


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


@pytest.mark.parametrize("freq", ["epoch", 1])
def test_a_training_stopped_by_its_loss_can_go_on(tmp_path, freq):
    """In half precision the weights stay finite: the optimizer skips bad updates."""
    keras.config.set_dtype_policy("mixed_float16")

    def fit(images, labels, **settings):
        model = FreeAdversarialModel(small_network(), 0.1, replays=2)
        model.compile(keras.optimizers.SGD(0.1), from_logits())
        callbacks = [
            keras.callbacks.TerminateOnNaN(),
            BackupAndRestore(tmp_path, save_freq=freq, delete_checkpoint=False),
        ]
        data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
        return model, model.fit(data, callbacks=callbacks, verbose=0, **settings)

    images, labels = small_images(32)
    bad = images.copy()
    bad[30] = np.nan  # in the last of four minibatches, reached in the second epoch
    with (
        pytest.warns(UserWarning, match="stopped at a loss.*not backed up.*is kept"),
        pytest.warns(UserWarning, match="Minibatch 3 of pass 0"),
    ):
        model, history = fit(bad, labels, epochs=6)
    assert history.epoch == [0, 1]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    # The data are mended, and it goes on from before.
    model, history = fit(images, labels, epochs=6)
    assert history.epoch == [0, 1, 2, 3, 4, 5]
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize(
    "changed", [{"epsilon": 0.2}, {"replays": 4}, {"norm": "l2"}, {"step_size": 0.01}]
)
def test_a_backup_of_another_training_is_refused(tmp_path, changed):
    images, labels = small_images(16)
    settings = {"epsilon": 0.1, "replays": 2, "norm": "linf"}
    model = FreeAdversarialModel(small_network(), **settings)
    model.compile("sgd", from_logits())
    interrupted(model, tmp_path / "b", 1, x=images, y=labels, epochs=5)
    other = FreeAdversarialModel(small_network(), **(settings | changed))
    other.compile("sgd", from_logits())
    backup = BackupAndRestore(tmp_path / "b")
    (name,) = changed
    with pytest.raises(ValueError, match=f"or training's.*settings.*{name}"):
        other.fit(images, labels, epochs=5, callbacks=[backup], verbose=0)


def test_a_backup_of_other_minibatches_warns(tmp_path):
    images, labels = small_images(16)
    model = FreeAdversarialModel(small_network(), 0.1, replays=2)
    model.compile("sgd", from_logits())
    interrupted(model, tmp_path, 1, x=images, y=labels, batch_size=8, epochs=5)
    other = FreeAdversarialModel(small_network(), 0.1, replays=2)
    other.compile("sgd", from_logits())
    with pytest.warns(UserWarning, match="of 2 updates an epoch.*makes 4.*position"):
        other.fit(
            images,
            labels,
            batch_size=4,
            epochs=5,
            callbacks=[BackupAndRestore(tmp_path)],
            verbose=0,
        )


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


class Ends(keras.callbacks.Callback):
    """Ends the program, as a kill would, at an update or after an epoch's backup."""

    def __init__(self, update=None, epoch=None):
        super().__init__()
        self.update, self.epoch, self.seen = update, epoch, 0

    def on_train_batch_begin(self, batch, logs=None):
        if self.seen == self.update:
            raise KeyboardInterrupt
        self.seen += 1

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def free_model(layers=(), metrics=("accuracy",), optimizer="sgd"):
    network = keras.Sequential([*small_network().layers, *layers])
    network.build((None, 6, 6, 1))
    model = FreeAdversarialModel(network, 0.1, replays=1)
    model.compile(optimizer, from_logits(), metrics=list(metrics))
    return model


@pytest.mark.parametrize("freq", ["epoch", 7])
def test_the_last_good_backup_is_kept_when_the_weights_end_as_nan(tmp_path, freq):
    class Poison(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.params["epochs"] and self.model.stream_position.update == 9:
                self.model.model.layers[-1].bias.assign([np.nan] * 3)

    images, labels = small_images(64)
    backup = BackupAndRestore(tmp_path / "b", save_freq=freq)
    callbacks = [Poison(), keras.callbacks.TerminateOnNaN(), backup]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        free_model().fit(
            images, labels, batch_size=8, epochs=4, callbacks=callbacks, verbose=0
        )
    again = free_model()
    callbacks = [BackupAndRestore(tmp_path / "b", save_freq=freq), Ends(update=7)]
    assert callbacks[0].epoch == (1 if freq == "epoch" else 0)
    with pytest.raises(KeyboardInterrupt):
        again.fit(
            images, labels, batch_size=8, epochs=4, callbacks=callbacks, verbose=0
        )
    assert all(np.isfinite(weight).all() for weight in again.get_weights())


def test_statistics_that_are_not_finite_are_not_backed_up(tmp_path):
    """Of batch norm; the weights are finite, as a loss scale keeps them."""
    network = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.BatchNormalization()]
        + [keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    network.compile("sgd", from_logits())

    class Poison(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                self.model.layers[0].moving_mean.assign([np.nan])

    images, labels = small_images(16)
    backup = BackupAndRestore(tmp_path)
    with pytest.warns(UserWarning, match="not finite.*not backed up.*is kept"):
        network.fit(images, labels, epochs=3, callbacks=[Poison(), backup], verbose=0)
    assert BackupAndRestore(tmp_path).epoch == 1


def test_a_training_that_a_callback_had_stopped_does_not_go_on(tmp_path):
    images, labels = small_images(16)

    def fit(*more):
        model = small_network()
        model.compile("sgd", from_logits())
        stopping = keras.callbacks.EarlyStopping("loss", patience=1, mode="max")
        backup = BackupAndRestore(tmp_path / "b")
        callbacks = [stopping, backup, *more]
        history = model.fit(images, labels, epochs=8, callbacks=callbacks, verbose=0)
        return history.epoch, history.history

    with pytest.raises(KeyboardInterrupt):
        fit(Ends(epoch=1))  # the second, at which the loss has fallen once
    epochs, history = fit()
    assert epochs == [0, 1]
    assert len(history["loss"]) == 2


def test_one_that_was_stopped_within_an_epoch_stops_there_again(tmp_path):
    class StopsAt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.stream_position.update == 6:
                self.model.stop_training = True

    images, labels = small_images(64)

    def fit(*callbacks):
        keras.utils.set_random_seed(0)
        model = free_model()
        model.fit(
            images, labels, batch_size=8, epochs=3, callbacks=callbacks, verbose=0
        )
        return model

    straight = fit(StopsAt())
    backup = BackupAndRestore(tmp_path / "b", save_freq=2)
    with pytest.raises(KeyboardInterrupt):
        fit(StopsAt(), backup, Ends(epoch=0))
    # Without the callback: it is the backup that knows.
    again = fit(BackupAndRestore(tmp_path / "b", save_freq=2))
    assert again.stream_position.update == straight.stream_position.update == 6
    for one, other in zip(again.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_files_of_a_model_checkpoint_are_those_of_a_straight_run(tmp_path):
    images, labels = small_images(64)

    def fit(name, *more):
        keras.utils.set_random_seed(0)
        files = str(tmp_path / name / "{epoch}-{batch}.weights.h5")
        checkpoint = keras.callbacks.ModelCheckpoint(
            files, save_freq=3, save_weights_only=True
        )
        backup = BackupAndRestore(tmp_path / f"{name}-backup", save_freq=2)
        callbacks = [checkpoint, backup, *more]
        free_model().fit(
            images, labels, batch_size=8, epochs=2, callbacks=callbacks, verbose=0
        )

    fit("straight")
    with pytest.raises(KeyboardInterrupt):
        fit("killed", Ends(update=7))
    fit("killed")
    names = sorted(path.name for path in (tmp_path / "straight").iterdir())
    assert len(names) == 5
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == names
    for name in names:
        models = []
        for run_name in ("straight", "killed"):
            models.append(free_model())
            models[-1].load_weights(tmp_path / run_name / name)
        one, other = (model.get_weights() for model in models)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("layers", "metrics", "message"),
    [
        ([keras.layers.Dropout(0.1)], ["accuracy"], "its states: .*seed_generator"),
        ([], [], "its metrics: .*accuracy"),
        ([], [keras.metrics.SparseTopKCategoricalAccuracy(2)], "its metrics: .*acc"),
    ],
)
def test_a_backup_of_other_random_layers_or_metrics_is_refused(
    tmp_path, layers, metrics, message
):
    images, labels = small_images(64)
    settings = {"batch_size": 8, "epochs": 2, "verbose": 0}
    backup = BackupAndRestore(tmp_path, save_freq=2)
    first = free_model(layers)
    with pytest.raises(KeyboardInterrupt):
        first.fit(images, labels, callbacks=[backup, Ends(update=5)], **settings)
    other = free_model(metrics=metrics)
    backup = BackupAndRestore(tmp_path, save_freq=2)
    with pytest.raises(ValueError, match=message):
        other.fit(images, labels, callbacks=[backup], **settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup-2"]


def test_logs_and_callbacks_may_hold_arrays(tmp_path):
    class Rows(keras.callbacks.Callback):
        best = None

        def on_epoch_end(self, epoch, logs=None):
            self.best = np.array([epoch, 0.5])
            logs["row"] = np.arange(2.0)
            logs["tensor"] = keras.ops.convert_to_tensor(1.5)
            logs["object"] = {"a set"}

    images, labels = small_images(16)

    def fit(rows, *more):
        model = small_network()
        model.compile("sgd", from_logits())
        callbacks = [rows, BackupAndRestore(tmp_path / "b"), *more]
        return model.fit(images, labels, epochs=3, callbacks=callbacks, verbose=0)

    with (
        pytest.warns(UserWarning, match=r"logs \['object'\] are not numbers"),
        pytest.raises(KeyboardInterrupt),
    ):
        fit(Rows(), Ends(epoch=2))
    rows = Rows()
    history = fit(rows).history
    np.testing.assert_array_equal(rows.best, [2, 0.5])
    assert history["row"] == [[0.0, 1.0]] * 3
    assert history["tensor"] == [1.5] * 3


def test_what_cannot_be_backed_up_is_refused_at_once(tmp_path):
    images, labels = small_images(16)
    model = small_network()
    model.compile(keras.optimizers.SGD(use_ema=True), from_logits())
    swapping = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    callbacks = [swapping, BackupAndRestore(tmp_path / "b")]
    with pytest.raises(ValueError, match="Use keras_free_adv.AveragedWeights"):
        model.fit(images, labels, callbacks=callbacks, verbose=0)
    (tmp_path / "file").write_text("")
    seen = Ends()
    callbacks = [BackupAndRestore(tmp_path / "file" / "b"), seen]
    with pytest.raises(OSError, match="could not be written: Not a directory"):
        model.fit(images, labels, callbacks=callbacks, verbose=0)
    assert seen.seen == 0
