"""Constructors and functions take any argument: a clear error, or a sound result."""

import math
import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_free_adv import (
    APGDAttack,
    AutoAttack,
    BackupAndRestore,
    CollapseGuard,
    FABAttack,
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    RobustnessEvaluation,
    RobustnessReport,
    SquareAttack,
    TRADESModel,
    datasets,
    paper_attacks,
    plotting,
    published_figures,
    recipes,
    replay,
    zoo,
)
from tests.conftest import small_images, small_network
from tests.reliability.any_input import ANYTHING, check_config, examples, made

SHARED = {
    "epsilon": 0.1,
    "norm": "l2",
    "value_range": (0.0, 1.0),
    "from_logits": "auto",
    "seed": 1,
    "name": "mine",
}
STEPS = {"steps": 3, "restarts": 2}
ATTACKS = {
    PGDAttack: {
        **SHARED,
        **STEPS,
        "step_size": 0.05,
        "random_start": False,
        "loss": "cw_margin",
        "keep": "last",
        "targeted": False,
    },
    APGDAttack: {
        **SHARED,
        **STEPS,
        "loss": "dlr",
        "targets": 2,
        "gradient_samples": 2,
    },
    FABAttack: {**SHARED, **STEPS, "targets": 3},
    SquareAttack: {
        **SHARED,
        "queries": 5,
        "restarts": 2,
        "data_format": "channels_first",
        "rescale_schedule": False,
    },
    AutoAttack: {
        **SHARED,
        "version": "plus",
        "attacks": None,
        "data_format": "channels_first",
    },
}
NETWORK = small_network()
TRAINING = {
    "model": NETWORK,
    "epsilon": 0.1,
    "step_size": 0.05,
    "norm": "linf",
    "value_range": (0.0, 1.0),
    "perturbed_input": None,
    "epsilon_warmup_steps": 3,
}
MODELS = {
    FreeAdversarialModel: {**TRAINING, "replays": 4},
    PGDAdversarialModel: {**TRAINING, "steps": 3, "random_start": True},
    TRADESModel: {**TRAINING, "steps": 3, "beta": 2.0},
}


def some_changed(defaults):
    """The arguments, a few of them replaced by anything."""
    changes = st.dictionaries(
        st.sampled_from(sorted(defaults)), ANYTHING, min_size=1, max_size=3
    )
    return changes.map(lambda changed: {**defaults, **changed})


def check_ball(thing):
    if thing.value_range is not None:  # an attack's may be the model's own
        low, high = thing.value_range
        assert type(low) is type(high) is float
        assert low < high
    assert type(thing.epsilon) is float
    assert 0 < thing.epsilon < math.inf
    assert thing.norm in ("linf", "l2")


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks(attack):
    @examples(150)
    @given(arguments=some_changed(ATTACKS[attack]))
    def check(arguments):
        thing = made(attack, **arguments)
        if thing is not None:
            check_ball(thing)
            assert isinstance(thing.name, str)
            assert type(thing.restarts) is int
            check_config(thing)

    check()


@pytest.mark.parametrize("model", MODELS)
def test_models(model):
    @examples(60)
    @given(arguments=some_changed(MODELS[model]))
    def check(arguments):
        thing = made(model, **arguments)
        if thing is not None:
            check_ball(thing)
            assert thing.model is NETWORK
            assert type(thing.replays) is int
            assert 0 < thing.step_size < math.inf
            check_config(thing)

    check()


@examples(100)
@given(arguments=some_changed({"save_freq": 3, "delete_checkpoint": True}))
def test_backups(arguments):
    thing = made(BackupAndRestore, backup_dir="not/made", **arguments)
    if thing is not None:
        check_config(thing, saved=False)


@examples(50)
@given(folder=ANYTHING.filter(lambda value: not isinstance(value, str)))
def test_backup_folders(folder):
    assert made(BackupAndRestore, backup_dir=folder) is None


DATA = small_images(8)
GUARD = {
    "attack": PGDAttack(0.1, seed=0),
    "drop": 0.1,
    "patience": 2,
    "restore_best_weights": False,
}
EVALUATION = {
    "attacks": [PGDAttack(0.1, seed=0)],
    "evaluation_freq": 2,
    "prefix": "val_",
    "log_dir": None,
    "images": 3,
}


@examples(100)
@given(arguments=some_changed(GUARD))
def test_guards(arguments):
    thing = made(CollapseGuard, data=DATA, **arguments)
    if thing is not None:
        assert 0 < thing.drop < 1
        assert type(thing.patience) is int


@examples(100)
@given(arguments=some_changed(EVALUATION))
def test_evaluations(arguments):
    thing = made(RobustnessEvaluation, data=DATA, **arguments)
    if thing is not None:
        assert type(thing.evaluation_freq) is int
        assert type(thing.prefix) is str


@examples(50)
@given(replays=ANYTHING)
def test_replay(replays):
    made(replay, replays=replays)


@examples(100)
@given(name=ANYTHING, other=ANYTHING)
def test_names(name, other):
    for call, arguments in (
        (recipes.get, {"name": name}),
        (recipes.table, {"name": name}),
        (paper_attacks, {"dataset": name}),
        (published_figures, {"dataset": "cifar10", "training": other}),
        (published_figures, {"dataset": name, "training": other}),
    ):
        made(call, **arguments)


LOADING = {
    "name": "digits",
    "split": "test",
    "batch_size": 8,
    "augment": "standard",
    "seed": 3,
    "one_hot": True,
    "drop_remainder": True,
    "image_size": None,
    "data_dir": None,
}


@examples(60)
@given(
    # The name and the folder of another set are TFDS' to judge.
    arguments=some_changed(
        {k: v for k, v in LOADING.items() if k not in ("name", "data_dir")}
    )
)
def test_loading(arguments):
    data = made(datasets.load, name="digits", **arguments)
    if data is not None:
        images, labels = next(iter(data))
        assert images.shape[1:] == (8, 8, 1)
        assert len(images) == len(labels)


NETWORKS = {
    zoo.small_cnn: {"classes": 3, "input_shape": (8, 8, 1), "value_range": (0, 255)},
    zoo.preact_resnet18: {
        "classes": 3,
        "input_shape": (8, 8, 1),
        "value_range": (0, 255),
        "width": 2,
    },
    zoo.compact_resnet: {
        "classes": 3,
        "input_shape": (8, 8, 1),
        "value_range": (0, 255),
        "width": 2,
        "activation": "silu",
    },
    zoo.wide_resnet: {
        "classes": 3,
        "input_shape": (8, 8, 1),
        "value_range": (0, 255),
        "depth": 8,
        "width": 1,
    },
}
# Large networks would be right, and take the machine's memory.
SMALL = ANYTHING.filter(
    lambda value: not (isinstance(value, int) and 9 < value < 2**62)
)


@pytest.mark.parametrize("network", NETWORKS)
def test_networks(network):
    defaults = NETWORKS[network]
    changes = st.dictionaries(
        st.sampled_from(sorted(defaults)), SMALL, min_size=1, max_size=2
    )

    @examples(25)
    @given(changed=changes)
    def check(changed):
        model = made(network, **{**defaults, **changed})
        if model is not None:
            assert isinstance(model, keras.Model)
            assert model.output_shape == (None, {**defaults, **changed}["classes"])

    check()


@examples(100)
@given(
    changes=st.dictionaries(
        st.sampled_from(recipes.get("digits_free8").settings()), ANYTHING, max_size=3
    )
)
def test_recipes(changes):
    recipe = made(recipes.get("digits_free8").replaced, **changes)
    if recipe is not None:
        assert recipes.from_dict(recipe.to_dict()) == recipe
        assert recipe.updates >= 1


@examples(100)
@given(text=st.one_of(ANYTHING, st.text(), st.binary()), cut=st.integers(0, 400))
def test_reports(text, cut):
    made(RobustnessReport.from_json, text=text)
    whole = (
        '{"schema_version": 3, "accuracy": {"natural": 1.0}, "robust": {"natural": '
        '[true]}, "worst_case": 1.0, "seconds": {}, "threat_models": {}}'
    )
    made(RobustnessReport.from_json, text=whole[:cut])


CURVES = {"curves": {"Free": ([1.0, 2.0], [0.1, 0.2])}, "ylabel": "", "title": "x"}


@examples(30)
@given(
    curves=some_changed(CURVES),
    dataset=ANYTHING,
    attack=ANYTHING,
    seconds=ANYTHING,
    shares=ANYTHING,
)
def test_pictures(curves, dataset, attack, seconds, shares):
    made(plotting.plot_accuracy_against_time, **curves)
    made(plotting.plot_accuracy_against_time, curves={"Free": (seconds, shares)})
    made(plotting.plot_published_cost, dataset=dataset, attack="pgd100")
    made(plotting.plot_published_cost, attack=attack)
    plt.close("all")


EXAMPLES = {
    "model": NETWORK,
    "images": DATA[0],
    "labels": DATA[1],
    "attack": PGDAttack(0.1, steps=1, seed=0),
    "class_names": ["a", "b", "c"],
}


@examples(20)
@given(arguments=some_changed(EXAMPLES))
def test_pictures_of_examples(arguments):
    made(plotting.plot_adversarial_examples, **arguments)
    plt.close("all")


MODELS_AND_DATA = {"models": {"a": NETWORK}, "data": DATA, "verbose": 0}
PICTURES = {
    plotting.plot_large_epsilon: {
        "models": {"a": NETWORK},
        "images": DATA[0][:2],
        "targets": DATA[1][:2],
        "attack": PGDAttack(0.1, steps=1, seed=0, targeted=True),
        "class_names": ["a", "b", "c"],
    },
    plotting.plot_delta_history: {
        "deltas": {1: np.zeros((1, 2, 3, 3, 1)), 2: np.ones((1, 2, 3, 3, 1))},
        "epsilon": 0.1,
        "norm": "l2",
        "value_range": (0, 1),
        "images": 1,
        "moment": "epoch",
    },
    plotting.plot_input_gradients: {
        "models": {"a": NETWORK},
        "images": DATA[0],
        "labels": DATA[1],
        "scale": "model",
        "class_names": ["a", "b", "c"],
        "value_range": (0, 1),
        "from_logits": True,
    },
    plotting.plot_loss_surface: {
        "models": {"a": NETWORK},
        "image": DATA[0][0],
        "label": DATA[1][0],
        "epsilon": 0.1,
        "direction": "pgd",
        "extent": 2.0,
        "value_range": (0, 1),
        "from_logits": True,
        "seed": 1,
    },
    plotting.plot_robustness_curve: {
        **MODELS_AND_DATA,
        "epsilons": [0.1],
        "attack": PGDAttack(0.1, steps=1, seed=0),
        "value_range": (0, 1),
        "batch_size": 4,
        "max_examples": 4,
    },
    plotting.plot_attack_strength: {
        **MODELS_AND_DATA,
        "epsilon": 0.1,
        "steps": [1],
        "restarts": [1],
        "norm": "l2",
        "value_range": (0, 1),
        "from_logits": True,
        "seed": 1,
        "batch_size": 4,
        "max_examples": 4,
    },
    plotting.plot_training_history: {"history": {"loss": [1.0]}, "title": "a"},
}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.filterwarnings("ignore")  # of a few examples
def test_pictures_of_models(picture):
    @examples(15)
    @given(arguments=some_changed(PICTURES[picture]))
    def check(arguments):
        made(picture, **arguments)

    check()


@examples(30)
@given(entry=ANYTHING, name=st.sampled_from(["loss", "val_loss", "passes"]))
def test_pictures_of_histories(entry, name):
    made(plotting.plot_training_history, history={"loss": [1.0, 2.0], name: entry})


@examples(30)
@given(model=ANYTHING, images=ANYTHING)
def test_pictures_of_delta(model, images):
    made(plotting.plot_delta, model=model, images=images)


@examples(30)
@given(model=ANYTHING)
def test_fusing(model):
    assert made(zoo.fused, model=model) is None


@examples(20)
@given(text=st.text(max_size=20))
def test_backup_folders_of_any_name(text):
    with tempfile.TemporaryDirectory() as folder:
        thing = made(BackupAndRestore, backup_dir=f"{folder}/{text}")
        if thing is not None:
            assert thing.epoch == 0
