import keras
import numpy as np
import pytest

from keras_free_adv import (
    BackupAndRestore,
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    RobustnessEvaluation,
    evaluate_robustness,
)
from tests.conftest import from_logits, small_images, small_network

pytestmark = [
    pytest.mark.filterwarnings("ignore:This run ends after"),
    pytest.mark.filterwarnings("ignore:Only .* examples were evaluated"),
]


@pytest.mark.parametrize("adversarial", [False, True])
def test_logs_what_an_evaluation_after_the_epoch_finds(adversarial):
    images, labels = small_images(40)
    network = small_network()
    model = FreeAdversarialModel(network, 0.1, replays=2) if adversarial else network
    model.compile("sgd", from_logits())
    attack = PGDAttack(0.05, steps=2, seed=0)
    robust = RobustnessEvaluation((images, labels), attack, max_examples=40)
    history = model.fit(images, labels, epochs=3, callbacks=[robust], verbose=0)
    logged = history.history["val_pgd2_accuracy"]
    assert len(logged) == 3
    last = evaluate_robustness(network, (images, labels), attack, verbose=0)
    assert logged[-1] == last.accuracy["pgd2"]


def test_every_so_many_epochs_and_a_prefix():
    images, labels = small_images(16)
    model = small_network()
    model.compile(keras.optimizers.SGD(0.5), from_logits())
    calls = []

    class Counted(RobustnessEvaluation):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            calls.append(dict(self.last_accuracy))

    robust = Counted(
        (images, labels), PGDAttack(0.05, steps=1), evaluation_freq=2, prefix="robust_"
    )
    history = model.fit(images, labels, epochs=5, callbacks=[robust], verbose=0)
    assert len(history.history["robust_pgd1_accuracy"]) == 4
    assert calls[0] == {}
    assert calls[1] == calls[2]


KEY = "val_pgd1_accuracy"


def fit_with(robust, *more, epochs):
    images, labels = robust.data
    model = small_network()
    model.compile(keras.optimizers.SGD(0.5), from_logits())
    return model.fit(
        images, labels, epochs=epochs, callbacks=[robust, *more], verbose=0
    ).history


def every_second_epoch():
    return RobustnessEvaluation(
        small_images(16), PGDAttack(0.05, steps=1), evaluation_freq=2
    )


def test_a_second_fit_does_not_log_what_the_first_one_found():
    robust = every_second_epoch()
    assert KEY in fit_with(robust, epochs=2)
    assert KEY not in fit_with(robust, epochs=1)
    assert robust.last_accuracy == {}


def test_a_fit_that_goes_on_from_a_backup_logs_what_it_had_found(tmp_path):
    """Interrupted between two evaluations: after the second epoch, at the third."""

    class Interrupted(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    backup = BackupAndRestore(tmp_path / "backup")
    first = every_second_epoch()
    with pytest.raises(KeyboardInterrupt):
        fit_with(first, Interrupted(), backup, epochs=3)
    continued = fit_with(
        every_second_epoch(), keras.callbacks.Callback(), backup, epochs=3
    )
    assert len(continued["loss"]) == 3
    assert continued[KEY] == [first.last_accuracy[KEY]] * 2


def test_a_checkpoint_that_comes_after_can_monitor_it(tmp_path):
    images, labels = small_images(16)
    model = small_network()
    model.compile("sgd", from_logits())
    saved = tmp_path / "best.keras"
    model.fit(
        images,
        labels,
        callbacks=[
            RobustnessEvaluation((images, labels), PGDAttack(0.05, steps=1)),
            keras.callbacks.ModelCheckpoint(
                saved, monitor="val_pgd1_accuracy", mode="max", save_best_only=True
            ),
        ],
        verbose=0,
    )
    assert saved.exists()


@pytest.mark.filterwarnings("ignore:Can save best model only")
@pytest.mark.filterwarnings("ignore:Early stopping conditioned")
@pytest.mark.parametrize("adversarial", [False, True])
def test_a_callback_that_comes_too_early_is_named_at_the_start(adversarial):
    images, labels = small_images(16)
    model = small_network()
    if adversarial:
        model = FreeAdversarialModel(model, 0.1, replays=1)
    model.compile("sgd", from_logits())
    with pytest.warns(UserWarning, match="EarlyStopping monitors 'val_pgd1_accuracy'"):
        model.fit(
            images,
            labels,
            callbacks=[
                keras.callbacks.EarlyStopping(monitor="val_pgd1_accuracy", mode="max"),
                RobustnessEvaluation((images, labels), PGDAttack(0.05, steps=1)),
            ],
            verbose=0,
        )
    assert np.isfinite(model.get_weights()[0]).all()


def test_it_is_serializable_with_its_arguments():
    images, labels = small_images(4)
    robust = RobustnessEvaluation(
        (images, labels),
        PGDAttack(0.05, steps=3, seed=1),
        evaluation_freq=2,
        prefix="x_",
    )
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(robust)
    )
    assert (copy.evaluation_freq, copy.prefix, copy.names) == (2, "x_", robust.names)
    assert copy.attacks[0].get_config() == robust.attacks[0].get_config()
    np.testing.assert_allclose(copy.data[0], images)


def test_an_evaluation_costs_at_most_a_fifth_of_an_epoch(capsys):
    """Worked out by hand, in forward passes; a backward pass counts as two.

    An epoch of Free training: 12 updates * 8 examples * 3 = 288. An example: 1, and for
    each of 2 runs 2 steps and the last iterate, 3 * 3, which makes 19. A fifth of 288
    is 57.6: 3 examples.
    """
    images, labels = small_images(96)
    model = FreeAdversarialModel(small_network(), 0.1, replays=2)
    model.compile("sgd", from_logits())
    attack = PGDAttack(0.05, steps=2, restarts=2, seed=0)
    robust = RobustnessEvaluation((images, labels), attack)
    fit = {"batch_size": 8, "callbacks": [robust]}
    history = model.fit(images, labels, verbose=2, **fit)
    assert "the first 3 examples" in capsys.readouterr().out
    report = evaluate_robustness(
        model, (images, labels), attack, max_examples=3, verbose=0
    )
    assert history.history[f"val_{attack.name}_accuracy"] == [
        report.accuracy[attack.name]
    ]
    # 7-PGD makes eight passes where Free training makes one: 2304 / 5 / 19 = 24.3.
    harder = PGDAdversarialModel(small_network(), 0.1, steps=7)
    harder.compile("sgd", from_logits())
    harder.fit(images, labels, verbose=2, **fit)
    assert "the first 24 examples" in capsys.readouterr().out


def test_what_is_said_or_all_of_a_plain_model_is_evaluated(capsys):
    images, labels = small_images(24)
    attack = PGDAttack(0.05, steps=2, seed=0)
    model = small_network()
    model.compile("sgd", from_logits())
    robust = RobustnessEvaluation((images, labels), attack)
    model.fit(images, labels, callbacks=[robust], verbose=2)
    assert "RobustnessEvaluation" not in capsys.readouterr().out
    last = evaluate_robustness(model, (images, labels), attack, verbose=0)
    assert robust.last_accuracy == {"val_pgd2_accuracy": last.accuracy["pgd2"]}
    with pytest.raises(ValueError, match="`max_examples`"):
        RobustnessEvaluation((images, labels), attack, max_examples=0)


def test_the_choice_is_in_the_config():
    attack = PGDAttack(0.05, steps=2, seed=0)
    robust = RobustnessEvaluation(
        small_images(8), attack, max_examples=5, class_names=["a", "b", "c"]
    )
    config = robust.get_config()
    assert config["max_examples"] == 5
    assert config["class_names"] == ["a", "b", "c"]
