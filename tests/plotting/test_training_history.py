import keras
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

from keras_free_adv import FreeAdversarialModel, PGDAttack, RobustnessEvaluation
from keras_free_adv.plotting import plot_training_history
from tests.conftest import from_logits, small_images, small_network
from tests.plotting.models import check_looks


def lines(axis):
    return {line.get_label(): line.get_xydata().tolist() for line in axis.lines}


@pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")
def test_a_history_of_fit_is_drawn_against_passes(tmp_path):
    images, labels = small_images(16)
    model = FreeAdversarialModel(small_network(), 0.1, replays=2)
    model.compile("sgd", from_logits(), metrics=["accuracy"])
    attack = PGDAttack(0.1, steps=2, seed=0)
    robust = RobustnessEvaluation((images, labels), attack, evaluation_freq=3)
    history = model.fit(
        images,
        labels,
        batch_size=8,
        epochs=4,
        verbose=0,
        validation_data=(images, labels),
        validation_freq=2,
        callbacks=[robust],
    )
    logs = history.history
    figure = plot_training_history(history, title="Free")
    loss, accuracy = figure.axes
    passes = [0.5, 1.0, 1.5, 2.0]
    assert logs["passes"] == passes
    assert lines(loss) == {
        "training": [list(p) for p in zip(passes, logs["loss"], strict=True)],
        "validation": [list(p) for p in zip([1.0, 2.0], logs["val_loss"], strict=True)],
    }
    assert lines(accuracy) == {
        "training": [list(p) for p in zip(passes, logs["accuracy"], strict=True)],
        "validation, natural": [
            list(p) for p in zip([1.0, 2.0], logs["val_accuracy"], strict=True)
        ],
        # Logged first at epoch 3, and again at epoch 4.
        "validation, under pgd2": [
            list(p) for p in zip([1.5, 2.0], logs["val_pgd2_accuracy"], strict=True)
        ],
    }
    for axis in figure.axes:
        assert axis.get_xlabel() == "passes through the data"
        assert axis.get_title() == "Free"
        drawn = [(line.get_linestyle(), line.get_marker()) for line in axis.lines]
        assert len(set(drawn)) == len(drawn)
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    check_looks(figure, tmp_path / "figure.png")


def test_a_natural_history_is_drawn_against_epochs():
    history = keras.callbacks.History()
    history.history = {"loss": [2.0, 1.0], "learning_rate": [0.1, 0.1]}
    (axis,) = plot_training_history(history).axes
    assert axis.get_xlabel() == "epochs"
    assert lines(axis) == {"training": [[1, 2.0], [2, 1.0]]}


def test_several_metrics_keep_their_names():
    logs = {
        "sparse_categorical_accuracy": [0.5],
        "top_k_categorical_accuracy": [0.75],
        "val_sparse_categorical_accuracy": [0.25],
        "val_top_k_categorical_accuracy": [0.5],
        "val_autoattack_accuracy": [0.125],
    }
    (axis,) = plot_training_history(logs).axes
    assert lines(axis) == {
        "training, sparse_categorical_accuracy": [[1, 0.5]],
        "training, top_k_categorical_accuracy": [[1, 0.75]],
        "validation, natural, sparse_categorical_accuracy": [[1, 0.25]],
        "validation, natural, top_k_categorical_accuracy": [[1, 0.5]],
        "validation, under autoattack": [[1, 0.125]],
    }


def test_many_epochs_have_few_markers():
    figure = plot_training_history({"loss": np.linspace(1, 0, 200)})
    assert figure.axes[0].lines[0].get_markevery() >= 10


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (None, "`history` must be a dict"),
        ({}, "`history` is empty"),
        ({"loss": []}, "`history` is empty"),
        ({"learning_rate": [1.0]}, r"`history`.*\['learning_rate'\]"),
        ({"loss": 1.0}, "`history`.*one an epoch"),
        ({"loss": ["a"]}, "`history`"),
        ({"loss": [1.0, 0.5], "passes": [1.0]}, "`history`.*'passes'"),
        ({"loss": [1.0] * 5, "val_loss": [1.0]}, "1 of 'val_loss' for 5 epochs"),
    ],
)
def test_what_cannot_be_drawn_is_refused(history, message):
    with pytest.raises((TypeError, ValueError), match=message):
        plot_training_history(history)
