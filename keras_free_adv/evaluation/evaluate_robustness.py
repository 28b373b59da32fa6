"""The accuracy of a classifier, natural and under attack."""

import platform
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_free_adv import (
    backends,
    image_axes,
    pixel_scale,
    random_numbers,
    validation,
)
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.data.labelled_batches import LabelledBatches
from keras_free_adv.distribution.replicas import Replicas
from keras_free_adv.evaluation.examples import Examples
from keras_free_adv.evaluation.finished_stages import (
    FinishedStages,
    Stage,
    check_path,
)
from keras_free_adv.evaluation.model_identity import identity_of, weights_checksum
from keras_free_adv.evaluation.model_warnings import is_random
from keras_free_adv.evaluation.packing import Survivors, all_standing, any_standing
from keras_free_adv.evaluation.predicted_classes import (
    SHOWN,
    PredictedClasses,
    channels_last,
)
from keras_free_adv.evaluation.probe import LOOKED_AT, Probes, probe
from keras_free_adv.evaluation.progress import Progress
from keras_free_adv.evaluation.report_warnings import warnings_of
from keras_free_adv.evaluation.robustness_report import NATURAL, RobustnessReport
from keras_free_adv.evaluation.standard_attacks import standard_attacks
from keras_free_adv.first_layers import unwrapped
from keras_free_adv.predictions import Predictions
from keras_free_adv.user_warnings import warn_user


def evaluate_robustness(
    model: keras.Model,
    data: Any,
    attacks: Attack | Sequence[Attack] | None = None,
    *,
    batch_size: int | None = None,
    max_examples: int | None = None,
    verbose: Any = "auto",
    resume: Any = None,
) -> RobustnessReport:
    """Measures natural accuracy, and accuracy under each attack.

    An example counts as robust to an attack only if it is classified correctly
    without one, and every restart fails: stricter than the paper's protocol, which
    picks the restart of largest loss. An example that is misclassified (of several
    labels, in all) is never attacked again: the others take its place, so that batches
    stay full. Random numbers follow from (seed, number of the example, restart), so the
    result does not depend on the batch size, up to float rounding. Under a
    MirroredStrategy each replica attacks its share; on many machines each worker, and
    every one of them has to make the call, with the same data and attacks with a seed:
    all get the report.

    Args:
        model: the classifier, `[B, ...]` to `[B, C]` (adversarially trained or not).
        data: (images, labels); or a tf.data.Dataset or PyDataset of minibatches of
            them, which is streamed, once for each attack unless it fits in 2 GiB.
            Images lie in the attacks' `value_range`, or if they have none in that of
            the model (see `keras_free_adv.pixel_scale`). The report's page takes class
            names from `data.class_names`, which `datasets.load` and Keras'
            `image_dataset_from_directory` set.
        attacks: an attack, or a list of attacks of different names; None for PGD-20
            and AutoAttack, with the epsilon and norm that an adversarial model was
            trained for.
        batch_size: examples under attack at once, on each replica; None for the
            dataset's own (of its first minibatch), 128 for arrays.
        max_examples: evaluate the first so many examples only.
        verbose: 0 for silence, 1 for a progress bar; "auto" is 1.
        resume: path of a file that keeps each attack's result as soon as it is
            finished (of an `AutoAttack` each part's). The same call after an
            interruption goes on from there. The attacks need a `seed` then. A file of
            another model (weights, architecture, dtypes, natural predictions) or of
            other data is refused.

    Returns:
        A `RobustnessReport`.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> images = np.random.rand(20, 4, 4, 1).astype("float32")
    >>> labels = np.random.randint(0, 3, 20)
    >>> report = evaluate_robustness(
    ...     network, (images, labels), [PGDAttack(epsilon=0.1, steps=5, seed=0)],
    ...     verbose=0)
    >>> list(report.accuracy)
    ['natural', 'pgd5']
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"Argument `model` must be a keras.Model. Received: {type(model).__name__}."
        )
    attacks = checked_attacks(_of_training(model) if attacks is None else attacks)
    verbose = validation.one_of("verbose", verbose, ("auto", 0, 1, 2))
    if resume is not None:
        check_path(resume)
        check_seeds(attacks, "Argument `resume` needs")
    replicas = Replicas(model)
    if replicas.workers > 1:
        check_seeds(attacks, "Many workers need")
    batches = LabelledBatches(
        data,
        batch_size=batch_size,
        max_examples=max_examples,
        value_range=one_value_range(attacks, model),
    )
    evaluation = _Evaluation(
        model,
        replicas,
        Examples(batches),
        batch_size,
        Progress(batches.examples, verbose),
        getattr(data, "class_names", None),
    )
    with replicas.explaining_lost_worker():
        stages, settings = evaluation.stages(attacks, batch_size, max_examples, resume)
    report = _report(stages, attacks, model, evaluation, settings)
    report.warnings += warnings_of(report, attacks, evaluation.probes)
    # A part of an ensemble and the same attack on its own have the same caveat.
    report.warnings = list(dict.fromkeys(report.warnings))
    for warning in report.warnings:
        warn_user(warning)
    return report


class _Evaluation:
    """One model, one set of examples; each attack is a pass through them."""

    def __init__(
        self,
        model: keras.Model,
        replicas: Replicas,
        examples: Examples,
        batch_size: int | None,
        progress: Progress,
        class_names: Any,
    ) -> None:
        self._model = model
        self._examples = examples
        self._replicas = replicas
        self._batch_size = batch_size or 0  # a dataset's own, once it is read
        self.progress = progress
        self.class_names = None if class_names is None else tuple(map(str, class_names))
        self.finished: FinishedStages
        self.views: dict[str, Predictions] = {}
        self.probes: Probes
        self._first: tuple[Attack, Predictions]  # attack, or its first part
        self.data_format = image_axes.resolve(None, model)
        self.labels: np.ndarray | None = None  # classes, of a model that predicts one

    def stages(
        self,
        attacks: list[Attack],
        batch_size: int | None,
        max_examples: int | None,
        resume: Any,
    ) -> tuple[dict[str, dict[str, Stage]], dict[str, Any]]:
        """The stages of each attack, and with what they were measured."""
        natural = self.natural(attacks)
        settings = self.settings(batch_size, max_examples)
        self.finished = FinishedStages(
            resume,
            model={} if resume is None else identity_of(self._model),
            data=settings["data"],
            natural=natural.standing,
            natural_classes=natural.classes,
            random=is_random(self.probes),
            writes=self._replicas.worker == 0,
        )
        self._replicas.require_same(
            self.finished.checksum,
            "Argument `resume` must be a file that all workers see. Received: "
            f"resume={str(resume)!r}, in which they see other stages (checksums "
            "{found}). Use a shared file system.",
        )
        natural.standing = self.finished.natural
        if self.finished.natural_classes is not None:
            natural.classes = self.finished.natural_classes
        stages = {NATURAL: {NATURAL: natural}}
        for attack in attacks:
            stages[attack.name] = self.attack(attack, natural)
        return stages, settings

    def natural(self, attacks: list[Attack]) -> Stage:
        """Which examples the model gets right without an attack."""
        right: list[np.ndarray] = []
        classes: list[np.ndarray] = []
        first_images: list[np.ndarray] = []
        all_labels: list[np.ndarray] = []
        seconds = 0.0
        self.progress.begin(NATURAL)
        for _, images, labels in self._examples:
            if not right:
                self._begin(attacks, images, labels)
            view = self._view(attacks[0])
            view.check_labels(labels)
            all_labels.append(labels)
            if sum(map(len, first_images)) < LOOKED_AT:
                first_images.append(images)
            begin = time.perf_counter()
            clean, logits = self._clean(images, labels)
            right.append(~ops.convert_to_numpy(clean.fooled))
            count = int(all_standing(right[-1]).sum())
            self.progress.add(stood=count, fell=len(images) - count)
            classes.append(ops.convert_to_numpy(ops.argmax(logits, axis=-1)))
            seconds += time.perf_counter() - begin
        self.progress.end()
        if not right:
            raise ValueError("Argument `data` holds no example. Pass at least one.")
        self._look(attacks, np.concatenate(first_images), np.concatenate(all_labels))
        # On unlike machines rounding may tell an example apart.
        standing = self._replicas.of_first_worker(np.concatenate(right))
        stage = Stage(standing, seconds, forward=len(standing), backward=0)
        if not view.several_labels:
            self.labels = ops.convert_to_numpy(view.encoded(np.concatenate(all_labels)))
            stage.classes = self._replicas.of_first_worker(np.concatenate(classes))
            stage.images = np.concatenate(first_images)[:SHOWN].astype("float32")
        return stage

    def _clean(self, images: Any, labels: Any) -> tuple[Any, Any]:
        """The outcome without an attack, and logits."""
        attack, view = self._first
        # Without an attack all of them compute the same.
        return attack.compiled(self._model, view, images, labels).clean(images, labels)

    def _begin(
        self, attacks: list[Attack], images: np.ndarray, labels: np.ndarray
    ) -> None:
        """What the first minibatch decides."""
        self._batch_size = self._batch_size or len(images)
        for attack in attacks:
            attack.check_images(images.shape, self._model)
        self.views = {a.name: a.view_of(self._model, images, labels) for a in attacks}
        _check_one_kind(self.views)
        self._first = attacks[0].parts()[0], self._view(attacks[0])

    def _look(
        self, attacks: list[Attack], images: np.ndarray, labels: np.ndarray
    ) -> None:
        """Looks at the model once in each way that an attack obtains its logits."""
        seen = {
            view: probe(self._model, view, images, labels)
            for view in dict.fromkeys(self.views.values())
        }
        self.probes = {name: seen[view] for name, view in self.views.items()}

    def attack(self, attack: Attack, last: Stage) -> dict[str, Stage]:
        """The stages of an attack, one for each of its parts, after another stage."""
        stages: dict[str, Stage] = {}
        before: list[dict[str, Any]] = []
        for part in attack.parts():
            # What a part is given depends on the parts before it.
            view = self._view(attack)
            own = _settings(part, self._model)
            settings = {
                **own,
                "logits": view.source,
                "kind": view.kind,
                "after": before,
            }
            stage = self.finished.find(settings)
            if stage is None:
                stage = self._run(part, view, last)
                self.finished.add(settings, stage)
            stages[part.name] = stage
            before = [*before, own]
            last = stage
        return stages

    def _run(self, part: Attack, view: Predictions, last: Stage) -> Stage:
        standing = last.standing
        survivors = Survivors(
            part,
            self._model,
            view,
            self._replicas,
            self._batch_size * self._replicas.count,
            lambda stood, fell: self.progress.add(stood=stood, fell=fell),
            last,
            lambda images, labels: self._clean(images, labels)[1],
        )
        self.progress.begin(part.name)
        for ids, images, labels in self._examples:
            here = self._replicas.of_this_worker(ids)
            attacked = any_standing(standing[ids]) & here
            wrong = int((here & ~attacked).sum())
            self.progress.add(fell=wrong, elsewhere=int((~here).sum()))
            survivors.add(ids[attacked], images[attacked], labels[attacked])
        here = self._replicas.of_this_worker(np.arange(len(standing)))
        left = survivors.finish().astype("int64")
        self.progress.end()
        left[~here] = 0
        passes = np.array([survivors.forward, survivors.backward])
        forward, backward = map(int, self._replicas.of_all_workers(passes))
        left = self._replicas.of_all_workers(left).astype(bool)
        stage = Stage(left, survivors.seconds, forward, backward)
        if survivors.classes is not None:
            classes = np.where(here, survivors.classes, 0)
            stage.classes = self._replicas.of_all_workers(classes)
            if survivors.images is not None:
                own = here[: len(survivors.images)]
                images = np.where(_for_each(own, survivors.images), survivors.images, 0)
                stage.images = self._replicas.of_all_workers(images)
        return stage

    def settings(
        self, batch_size: int | None, max_examples: int | None
    ) -> dict[str, Any]:
        """The versions, data and devices used."""
        return {
            "model": self._model.name,
            "model_checksum": weights_checksum(self._model),
            "data": {
                "examples": self._examples.count,
                "checksum": self._examples.checksum,
                "batch_size": batch_size,
                "max_examples": max_examples,
            },
            "dtype_policy": self._model.dtype_policy.name,
            "replicas": self._replicas.count * self._replicas.workers,
            "deterministic_ops": backends.deterministic(),
            "generator": random_numbers.GENERATOR,
            "versions": {
                "python": platform.python_version(),
                "keras": keras.__version__,
                **backends.versions(),
                "numpy": np.__version__,
            },
        }

    def _view(self, attack: Attack) -> Predictions:
        return self.views[attack.name]


def _report(
    stages: dict[str, dict[str, Stage]],
    attacks: list[Attack],
    model: keras.Model,
    evaluation: _Evaluation,
    settings: dict[str, Any],
) -> RobustnessReport:
    left = {name: list(parts.values())[-1].standing for name, parts in stages.items()}
    robust = {name: all_standing(standing) for name, standing in left.items()}
    view = next(iter(evaluation.views.values()))
    return RobustnessReport(
        accuracy={name: float(stands.mean()) for name, stands in robust.items()},
        robust=robust,
        worst_case=float(np.logical_and.reduce(list(robust.values())).mean()),
        seconds={
            name: sum(stage.seconds for stage in parts.values())
            for name, parts in stages.items()
        },
        threat_models={
            attack.name: {
                **_settings(attack, model),
                "logits": evaluation.views[attack.name].source,
                "kind": evaluation.views[attack.name].kind,
            }
            for attack in attacks
        },
        warnings=[
            caveat
            for attack in attacks
            for caveat in attack.caveats(evaluation.views[attack.name])
        ],
        passes={
            name: {
                "forward": sum(stage.forward for stage in parts.values()),
                "backward": sum(stage.backward for stage in parts.values()),
            }
            for name, parts in stages.items()
        },
        stages={
            name: {
                part: float(all_standing(stage.standing).mean())
                for part, stage in parts.items()
            }
            for name, parts in stages.items()
            if len(parts) > 1
        },
        settings=settings,
        label_accuracy=(
            {name: standing.mean(0).tolist() for name, standing in left.items()}
            if view.several_labels
            else {}
        ),
        predicted=_predicted(stages, evaluation),
    )


def _predicted(
    stages: dict[str, dict[str, Stage]], evaluation: _Evaluation
) -> PredictedClasses | None:
    """Which classes are predicted; None of a model that predicts several labels."""
    if evaluation.labels is None:
        return None
    last = {name: list(parts.values())[-1] for name, parts in stages.items()}
    images = {
        name: channels_last(stage.images, evaluation.data_format)
        for name, stage in last.items()
        if stage.images is not None
    }
    return PredictedClasses(
        evaluation.labels,
        {n: stage.classes for n, stage in last.items() if stage.classes is not None},
        images.pop(NATURAL),
        images,
        evaluation.class_names,
    )


def _for_each(flags: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Flags `[B]` in the shape of images `[B, ...]`, with axes of size 1."""
    return flags.reshape(-1, *[1] * (images.ndim - 1))


def _check_one_kind(views: dict[str, Predictions]) -> None:
    kinds = {name: view.kind for name, view in views.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            "Argument `attacks` must hold attacks of one `predicts`: what counts as "
            f"right is the same in all of a report. Received: {kinds}."
        )


def _settings(attack: Attack, model: keras.Model) -> dict[str, Any]:
    """An attack's settings, with which it can be repeated, as plain values.

    What it took from the model is in them, so that the same attack can be repeated on
    another one.
    """
    config = keras.saving.serialize_keras_object(attack)
    seed = attack.seed_in_use
    name = config["registered_name"]
    return {
        "class_name": name,
        **config["config"],
        "seed": seed,
        "value_range": attack.value_range_for(model),
    }


def one_value_range(
    attacks: Sequence[Attack], model: keras.Model
) -> tuple[float, float]:
    """The pixel range of all attacks on this model, or raises if there are several."""
    ranges = {attack.name: attack.value_range_for(model) for attack in attacks}
    return pixel_scale.the_same(ranges, "attacks", "Evaluate them one by one.")


def _of_training(model: keras.Model) -> list[Attack]:
    """The standard attacks, in the ball that a model was trained for."""
    if unwrapped(model) is model or not hasattr(model, "epsilon"):
        raise ValueError(
            "Argument `attacks` is needed for a model that does not tell the epsilon "
            f"it was trained for. Received: attacks=None, with {model.name!r}. Pass "
            "attacks=[PGDAttack(epsilon=8 / 255), AutoAttack(epsilon=8 / 255)]."
        )
    return standard_attacks(model.epsilon, norm=model.norm)


def check_seeds(attacks: list[Attack], who: str) -> None:
    """Raises if an attack has no seed, which several processes need to agree."""
    for attack in attacks:
        if attack.seed is None:
            raise ValueError(
                f"{who} attacks with a seed: without one, another process draws other "
                f"numbers. Received: {attack.name!r} with seed=None. Pass seed=0."
            )


def checked_attacks(attacks: Any) -> list[Attack]:
    """Returns `attacks` as a list, or raises if one report cannot hold them."""
    attacks = [attacks] if isinstance(attacks, Attack) else attacks
    if not isinstance(attacks, Sequence) or isinstance(attacks, (str, bytes)):
        raise TypeError(
            "Argument `attacks` must be an attack or a list of attacks, such as "
            f"[PGDAttack(epsilon=8 / 255)]. Received: {attacks!r}."
        )
    attacks = list(attacks)
    for attack in attacks:
        if not isinstance(attack, Attack):
            raise TypeError(
                "Argument `attacks` must hold attacks, such as PGDAttack(epsilon=8 / "
                f"255). Received: {attack!r} (of type {type(attack).__name__})."
            )
        if attack.targeted:
            raise ValueError(
                "Argument `attacks` must hold untargeted attacks: robust accuracy "
                f"counts every misclassification. Received: {attack.name!r} with "
                "targeted=True."
            )
    if not attacks:
        raise ValueError("Argument `attacks` is empty. Pass at least one attack.")
    names = [attack.name for attack in attacks]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or NATURAL in names:
        raise ValueError(
            "Argument `attacks` must hold attacks of different names, none of them "
            f"'natural'. Received: {names}. Pass name=... to tell them apart."
        )
    ranges = {a.name: a.value_range for a in attacks if a.value_range is not None}
    if ranges:
        pixel_scale.the_same(ranges, "attacks", "Evaluate them one by one.")
    return attacks
