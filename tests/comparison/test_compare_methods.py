"""Methods compared for the same time, from a plan that is kept."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_free_adv import FreeAdversarialModel, PGDAttack, evaluate_robustness
from keras_free_adv.comparison import compare_methods
from keras_free_adv.comparison.methods import chosen
from keras_free_adv.comparison.plan import kept, planned
from keras_free_adv.training import NaturalModel

pytestmark = pytest.mark.filterwarnings(
    "ignore:Only .* examples were evaluated", "ignore:This run ends after"
)

EPSILON = 0.05


def halves(examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright upper half (class 0) or left half (class 1)."""
    draw = np.random.default_rng(seed)
    images = draw.uniform(0.2, 0.6, (examples, 6, 6, 1)).astype("float32")
    labels = draw.integers(0, 2, examples)
    images[labels == 0, :3] += 0.2
    images[labels == 1, :, :3] += 0.2
    return images, labels


TRAIN, TEST = halves(256, 0), halves(120, 1)


def build_model() -> keras.Model:
    network = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    network.compile(
        keras.optimizers.SGD(0.1, 0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return network


def compared(build=build_model, train=TRAIN, test=TEST, **arguments):
    settings = {
        "methods": ["natural", "free2", "fgsm_rs"],
        "seconds": 2.0,
        "epsilon": EPSILON,
        "attacks": PGDAttack(EPSILON, steps=10, seed=0),
        "epochs": 2,
        "batch_size": 32,
        "verbose": 0,
    }
    return compare_methods(build, train, test, **(settings | arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def comparison(folder):
    return compared(folder=folder)


def test_the_reports_are_those_of_the_networks(comparison):
    assert list(comparison.reports) == ["natural", "free2", "fgsm_rs"]
    for name, network in comparison.models.items():
        report = evaluate_robustness(
            network, TEST, PGDAttack(EPSILON, steps=10, seed=0), verbose=0
        )
        assert report.accuracy == comparison.reports[name].accuracy


def test_each_made_the_updates_that_were_planned(comparison):
    plan = comparison.plan
    for name, network in comparison.models.items():
        seconds = comparison.histories[name]["seconds"]
        assert len(seconds) == 2
        assert len(comparison.histories[name]["val_pgd10_accuracy"]) == 2
        each = plan.update_seconds[name] * plan.updates(name)
        assert each <= 2.0
        assert each > 1.5 or plan.updates(name) < 20
        assert isinstance(network, keras.Sequential)
    assert plan.epoch_updates["free2"] % 2 == 0


def test_the_same_call_gives_what_was_kept(folder, comparison):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = compared(folder=folder)
    assert again.histories == comparison.histories
    for name, report in comparison.reports.items():
        np.testing.assert_array_equal(
            again.reports[name].robust["pgd10"], report.robust["pgd10"]
        )
    assert before[folder / "plan.json"] == (folder / "plan.json").read_bytes()


def test_an_interrupted_comparison_goes_on_with_the_same_plan(
    tmp_path, folder, comparison
):
    (tmp_path / "plan.json").write_bytes((folder / "plan.json").read_bytes())
    stopped = _Stopped()
    original = keras.callbacks.CallbackList.on_epoch_begin

    def stopping(self, epoch, logs=None):
        if epoch == 1 and not stopped.done:
            stopped.done = True
            raise KeyboardInterrupt
        original(self, epoch, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.callbacks.CallbackList, "on_epoch_begin", stopping)
        with pytest.raises(KeyboardInterrupt):
            compared(folder=tmp_path)
        continued = compared(folder=tmp_path)
    for name, network in comparison.models.items():
        for one, two in zip(
            continued.models[name].get_weights(), network.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, two)


class _Stopped:
    done = False


def test_all_begin_with_the_same_weights_and_images(tmp_path):
    begun = []

    def recorded(network):
        begun.append([w.copy() for w in network.get_weights()])
        return NaturalModel(network)

    compared(methods={"one": recorded, "two": recorded}, seconds=1.0)
    for weights in begun[1:]:
        for one, two in zip(weights, begun[0], strict=True):
            np.testing.assert_array_equal(one, two)


def test_another_comparison_is_refused_the_folder(folder, comparison):
    with pytest.raises(ValueError, match="another comparison: epochs=2 .now 3."):
        compared(folder=folder, epochs=3)
    with pytest.raises(ValueError, match="train_checksum"):
        compared(train=TEST, folder=folder)


def test_the_tables_show_what_the_reports_hold(comparison, tmp_path):
    text = comparison.to_text()
    for name, report in comparison.reports.items():
        assert f"{100 * report.accuracy['pgd10']:.1f} ±" in text
        assert name in text
    assert len(comparison.p_values) == 3
    best = max(comparison.reports, key=lambda n: _robust(comparison, n))
    assert comparison.verdict.startswith(f"Most robust under pgd10: {best} (")
    assert "| free2 |" in comparison.to_markdown()
    assert "<table>" in comparison._repr_html_()
    comparison.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<polyline") == 3
    assert "http" not in page.replace("http-equiv", "")
    assert len(comparison.plot().axes[0].lines) == 3


def test_what_a_report_doubts_is_said_of_the_comparison(comparison, tmp_path):
    doubted = dataclasses.replace(comparison.reports["free2"], warnings=["a <doubt>"])
    other = dataclasses.replace(
        comparison, reports={**comparison.reports, "free2": doubted}
    )
    assert "free2: a <doubt>" in other.warnings
    assert "**Warning:** free2: a <doubt>" in other.to_markdown()
    other.to_html(tmp_path / "page.html")
    beginning = (tmp_path / "page.html").read_text().split("<h2>")[0]
    assert "free2: a &lt;doubt&gt;" in beginning


def _robust(comparison, name):
    return comparison.reports[name].accuracy["pgd10"]


def test_the_plan_is_worked_out_by_hand():
    settings = {"seconds": 10.0, "epochs": 5}
    plan = planned(settings, {"natural": 0.1, "free": 0.15}, {"natural": 1, "free": 4})
    # 10 / 0.1 / 5 = 20; 10 / 0.15 / 5 / 4 = 3.3: three minibatches of four updates.
    assert plan.epoch_updates == {"natural": 20, "free": 12}
    assert plan.updates("free") == 60
    assert str(plan).splitlines()[1] == "free: 60 updates of 150 ms"


def test_more_of_what_a_comparison_depends_on_is_told_apart(tmp_path):
    settings = {"methods": ["natural"], "seconds": 0.5, "folder": tmp_path}
    compared(**settings, identity={"data": "version 1"})
    with pytest.raises(ValueError, match="data=version 1 .now version 2."):
        compared(**settings, identity={"data": "version 2"})

    def other():
        network = build_model()
        network.compile(keras.optimizers.SGD(0.01, 0.9), network.loss)
        return network

    with pytest.raises(ValueError, match="another comparison: network="):
        compared(other, **settings, identity={"data": "version 1"})


@pytest.mark.filterwarnings("ignore:All .* examples are of one class")
def test_test_examples_in_the_order_of_their_classes_are_noticed():
    images, labels = TEST
    one_class = images[labels == 0], labels[labels == 0]
    with pytest.warns(UserWarning, match="are of 1 of 2 classes"):
        compared(test=one_class, methods=["natural"], seconds=0.5, epochs=1)


def test_too_little_time_is_refused():
    with pytest.raises(ValueError, match="Allow at least 8"):
        planned({"seconds": 1.0, "epochs": 2}, {"free": 1.0}, {"free": 4})


def test_a_damaged_plan_is_named(tmp_path):
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(ValueError, match=r"plan.json is damaged"):
        kept(tmp_path, {})
    (tmp_path / "plan.json").write_text(json.dumps({"other": 1}))
    with pytest.raises(ValueError, match=r"plan.json is damaged"):
        kept(tmp_path, {})


def test_named_methods_are_those_of_the_paper():
    network = build_model()
    made = {
        name: make(network)
        for name, make in chosen(
            ["natural", "free", "free3", "fgsm_rs", "pgd7", "trades"],
            0.08,
            "linf",
            (0.0, 1.0),
        ).items()
    }
    assert made["free"].replays == 8
    assert made["free3"].replays == 3
    assert made["free3"].step_size == pytest.approx(0.08)
    assert made["fgsm_rs"].steps == 1
    assert made["fgsm_rs"].step_size == pytest.approx(0.1)
    assert made["pgd7"].steps == 7
    assert made["pgd7"].step_size == pytest.approx(0.02)
    assert made["trades"].beta == 6.0
    assert all(one.epsilon == 0.08 for name, one in made.items() if name != "natural")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"methods": ["fre"]}, "Argument `methods`"),
        ({"methods": "free"}, "must be a list of names"),
        ({"methods": []}, "`methods` is empty"),
        ({"methods": {"mine": 3}}, "must map names to functions"),
        ({"seconds": 0}, "`seconds`"),
        ({"epochs": 0}, "`epochs`"),
        ({"epsilon": -1}, "`epsilon`"),
        ({"norm": "l1"}, "`norm`"),
        ({"verbose": 7}, "`verbose`"),
        ({"attacks": PGDAttack(EPSILON)}, "seed"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, said):
    with pytest.raises((TypeError, ValueError), match=said):
        compared(**arguments)


def test_a_model_that_is_not_compiled_is_refused():
    def build():
        return keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten()])

    with pytest.raises(ValueError, match="must return a compiled model"):
        compare_methods(build, TRAIN, TEST, epsilon=0.1, verbose=0)
    with pytest.raises(TypeError, match="must return a keras.Model"):
        compare_methods(lambda: 3, TRAIN, TEST, epsilon=0.1, verbose=0)
    with pytest.raises(TypeError, match="`build_model` must be a function"):
        compare_methods(build_model(), TRAIN, TEST, epsilon=0.1, verbose=0)


def test_a_number_falls_along_a_cosine_and_a_schedule_stays():
    from keras_free_adv.comparison.method_training import wrapped

    model = wrapped(build_model, NaturalModel, 100)
    rate = model.optimizer._learning_rate
    assert float(rate(0)) == pytest.approx(0.1)
    assert float(rate(50)) == pytest.approx(0.05)  # half way of half a cosine
    assert model.optimizer.momentum == 0.9

    def scheduled():
        network = build_model()
        network.compile(
            keras.optimizers.SGD(
                keras.optimizers.schedules.ExponentialDecay(0.3, 10, 0.5)
            ),
            network.loss,
        )
        return network

    kept_rate = wrapped(scheduled, NaturalModel, 100).optimizer._learning_rate
    assert float(kept_rate(10)) == pytest.approx(0.15)


def test_datasets_are_taken_as_arrays_are():
    import tensorflow as tf

    train = tf.data.Dataset.from_tensor_slices(TRAIN).shuffle(256, seed=1).batch(32)
    test = tf.data.Dataset.from_tensor_slices(TEST).batch(50)
    comparison = compare_methods(
        build_model,
        train,
        test,
        methods={"mine": lambda n: FreeAdversarialModel(n, 0.01, replays=3)},
        seconds=1.0,
        epsilon=EPSILON,
        attacks=PGDAttack(EPSILON, steps=5, seed=0),
        max_examples=70,
        epochs=2,
        verbose=0,
    )
    assert comparison.reports["mine"].examples == 70
    assert comparison.plan.epoch_updates["mine"] % 3 == 0
