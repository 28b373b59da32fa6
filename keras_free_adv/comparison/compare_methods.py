"""Trains a network by several methods for the same time, and attacks the results."""

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_free_adv import validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.comparison import comparison_data, method_training
from keras_free_adv.comparison import plan as plans
from keras_free_adv.comparison.comparison_settings import ComparisonSettings
from keras_free_adv.comparison.method_comparison import MethodComparison
from keras_free_adv.comparison.methods import Method
from keras_free_adv.comparison.plan import Plan
from keras_free_adv.comparison.update_seconds import update_seconds
from keras_free_adv.evaluation.evaluate_robustness import evaluate_robustness
from keras_free_adv.evaluation.robustness_report import RobustnessReport

METHODS = ("natural", "free", "fgsm_rs", "pgd7")
FINISHED = "attacked.partial"


def compare_methods(
    build_model: Callable[[], Any],
    train: Any,
    test: Any,
    *,
    methods: Iterable[str] | Mapping[str, Method] = METHODS,
    seconds: float = 600.0,
    epsilon: float | None = None,
    norm: str = "linf",
    value_range: tuple[float, float] | None = None,
    attacks: Attack | Sequence[Attack] | None = None,
    max_examples: int | None = 1000,
    epochs: int = 10,
    batch_size: int = 128,
    seed: int = 0,
    folder: Any = None,
    identity: Mapping[str, Any] | None = None,
    verbose: Any = "auto",
) -> MethodComparison:
    """Which method of training makes this network most robust in the time there is?

    An update of each method is timed, the methods in turns, and so many updates are
    planned as fit in `seconds`. Then each method trains the network from the same
    weights on minibatches in the same order, and all of them are attacked on the same
    test examples. A learning rate that is a number falls along a cosine to zero over
    the updates; a schedule is used as it is.

    Args:
        build_model: makes the network, compiled as for natural training: its loss and
            optimizer are those of every method.
        train: (images, labels); or a tf.data.Dataset or PyDataset of minibatches.
        test: the same kinds, of other images; in a fixed order that mixes the classes,
            since the first ones are attacked.
        methods: of "natural", "free" (m = 8; "free4" for m = 4), "fgsm_rs", "pgd7" and
            "trades"; or a dict of names to functions that wrap a network, such as
            `lambda network: FreeAdversarialModel(network, 8 / 255, step_size=0.02)`.
        seconds: of training, for each method.
        epsilon: radius of the ball, on the pixel scale; None for 8/255 of the range of
            the model's pixels (L2: 128/255).
        norm: "linf" or "l2".
        value_range: lowest and highest pixel value; None for what the model shows.
        attacks: attacks with a seed; None for PGD-20 and AutoAttack.
        max_examples: of `test` to attack in the end, the first ones; None for all.
        epochs: into how many parts a training is cut: after each there is a backup,
            and robust accuracy on the first 200 test examples under PGD-10, whose time
            does not count.
        batch_size: of arrays.
        seed: of weights, order and random starts.
        folder: where plan, weights and reports are kept. The same call goes on after
            an interruption, with the updates that were planned. None keeps nothing.
        identity: what else the comparison depends on, such as the version of the data;
            it is kept with the plan, and the folder of another one is refused.
        verbose: 0, 1, 2 or "auto", as of `fit`.

    Returns:
        A `MethodComparison`.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message; `seconds` is not
            enough for an update; or `folder` holds another comparison.

    Example:
    >>> def build_model():
    ...     network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                                 keras.layers.Dense(10)])
    ...     loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ...     network.compile("adam", loss)
    ...     return network
    >>> images = np.random.rand(256, 8, 8, 1).astype("float32")
    >>> labels = np.random.randint(0, 10, 256)
    >>> comparison = compare_methods(
    ...     build_model, (images, labels), (images, labels),
    ...     methods=["natural", "free"], seconds=1, epsilon=0.1, epochs=2, verbose=0,
    ...     attacks=PGDAttack(0.1, steps=5, seed=0), max_examples=100)
    >>> list(comparison.reports)
    ['natural', 'free']
    """
    if not callable(build_model) or isinstance(build_model, keras.Model):
        raise TypeError(
            "Argument `build_model` must be a function that makes the network. "
            f"Received: {type(build_model).__name__}."
        )
    verbose = validation.one_of("verbose", verbose, ("auto", 0, 1, 2))
    probe = method_training.compiled_network(build_model)
    settings = ComparisonSettings.checked(
        probe,
        methods=methods,
        seconds=seconds,
        epsilon=epsilon,
        norm=norm,
        value_range=value_range,
        attacks=attacks,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
    )
    data = comparison_data.fit_arguments(train, batch_size)
    looked_at = comparison_data.first_examples(test, settings.value_range)
    comparison_data.warn_of_missing_classes(looked_at[1], probe)
    compared = {
        **settings.to_dict(),
        "network": method_training.identity_of(probe),
        "train_checksum": comparison_data.checksum(train),
        **(identity or {}),
    }

    def make(name: str, updates: int) -> Any:
        keras.utils.set_random_seed(seed)
        return method_training.wrapped(build_model, settings.methods[name], updates)

    with _home(folder) as home:
        plan = plans.kept(home, compared)
        if plan is None:
            timed = {name: make(name, 1) for name in settings.methods}
            plan = _planned(compared, timed, data)
            plans.keep(home, plan)
        _say(verbose, f"{plan}")
        networks, histories = {}, {}
        for name in settings.methods:
            _say(verbose, f"Training: {name}")
            networks[name], histories[name] = method_training.trained(
                functools.partial(make, name, plan.updates(name)),
                data,
                looked_at,
                settings.look,
                epochs=epochs,
                steps_per_epoch=plan.epoch_updates[name],
                folder=home / name,
                verbose=verbose,
            )
        reports = {
            name: _report(
                network, test, settings.attacks, home / name, max_examples, verbose
            )
            for name, network in networks.items()
        }
    return MethodComparison(plan, reports, histories, networks)


def _planned(
    settings: dict[str, Any], models: dict[str, Any], data: Mapping[str, Any]
) -> Plan:
    """Times an update of each method, and plans their updates."""
    found = update_seconds(models, data)
    replays = {name: getattr(model, "replays", 1) for name, model in models.items()}
    return plans.planned(settings, found, replays)


def _report(
    network: keras.Model,
    test: Any,
    attacks: Sequence[Attack],
    folder: Path,
    max_examples: int | None,
    verbose: Any,
) -> RobustnessReport:
    """The report of a network; what its folder holds of it is not done again."""
    _say(verbose, f"Attacking: {folder.name}")
    report = evaluate_robustness(
        network,
        test,
        attacks,
        max_examples=max_examples,
        resume=folder / FINISHED,
        verbose=0 if verbose in (0, 2) else "auto",
    )
    report.settings["model"] = folder.name
    return report


@contextlib.contextmanager
def _home(folder: Any) -> Iterator[Path]:
    """The folder of a comparison; a temporary one if none is given."""
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    else:
        Path(folder).mkdir(parents=True, exist_ok=True)
        yield Path(folder)


def _say(verbose: Any, text: str) -> None:
    if verbose != 0:
        print(text, flush=True)
