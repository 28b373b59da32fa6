"""One evaluation: a model, a set of examples, and the attacks one after another."""

import platform
import time
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_free_adv import backends, image_axes, random_numbers
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.half_precision import FLOAT32, inner_layers
from keras_free_adv.distribution.replicas import Replicas
from keras_free_adv.evaluation.examples import Examples
from keras_free_adv.evaluation.finished_stages import FinishedStages, Stage
from keras_free_adv.evaluation.model_identity import identity_of, weights_checksum
from keras_free_adv.evaluation.model_warnings import is_random
from keras_free_adv.evaluation.packing import Survivors, all_standing, any_standing
from keras_free_adv.evaluation.predicted_classes import SHOWN
from keras_free_adv.evaluation.probe import LOOKED_AT, Probes, probe
from keras_free_adv.evaluation.progress import Progress
from keras_free_adv.evaluation.robustness_report import NATURAL
from keras_free_adv.evaluation.time_left import TimeLeft, in_forward_passes
from keras_free_adv.predictions import Predictions


class Evaluation:
    """One model, one set of examples; each attack is a pass through them."""

    def __init__(
        self,
        model: keras.Model,
        replicas: Replicas,
        examples: Examples,
        batch_size: int | None,
        progress: Progress,
        class_names: Any,
        search_dtype: str = FLOAT32,
    ) -> None:
        self._model = model
        self._search_dtype = search_dtype
        self._examples = examples
        self._replicas = replicas
        self._batch_size = batch_size or 0  # a dataset's own, once it is read
        self.progress = progress
        self.class_names = None if class_names is None else tuple(map(str, class_names))
        self.finished: FinishedStages
        self.views: dict[str, Predictions] = {}
        self.probes: Probes
        self._first: tuple[Attack, Predictions]  # attack, or its first part
        self._costs: dict[tuple[str, str], float] = {}  # of each part, in its order
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
        self._check_not_random()
        settings = self.settings(batch_size, max_examples)
        self.finished = FinishedStages(
            resume,
            model={} if resume is None else identity_of(self._model),
            data=settings["data"],
            search=self._search_dtype,
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
        self._costs = {
            (attack.name, part.name): cost_to_withstand(part, self._view(attack))
            for attack in attacks
            for part in attack.parts()
        }
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
        self._check_search(self._view(attacks[0]))
        self._first = attacks[0].parts()[0], self._view(attacks[0])

    def _check_search(self, view: Predictions) -> None:
        """Raises if there can be no search in half precision."""
        if self._search_dtype == FLOAT32:
            return
        if view.several_labels:
            raise ValueError(
                "Argument `search_dtype` must be 'float32' for a model that predicts "
                "several labels at once: each label can fall at another point, and "
                f"one is kept to be checked. Received: {self._search_dtype!r}."
            )
        inner_layers(self._model)  # raises

    def _check_not_random(self) -> None:
        """Raises if the model would meet a claim of the search with other numbers."""
        if self._search_dtype != FLOAT32 and is_random(self.probes):
            raise ValueError(
                "Argument `search_dtype` must be 'float32' for a model that draws "
                "random numbers: where a search in half precision was successful, "
                f"the model would draw others. Received: {self._search_dtype!r}."
            )

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
            own = settings_of(part, self._model)
            settings = {
                **own,
                "logits": view.source,
                "kind": view.kind,
                "after": before,
            }
            stage = self.finished.find(settings)
            if stage is None:
                stage = self._run(attack.name, part, view, last)
                self.finished.add(settings, stage)
            stages[part.name] = stage
            before = [*before, own]
            last = stage
        return stages

    def _run(self, name: str, part: Attack, view: Predictions, last: Stage) -> Stage:
        """The stage of a part of the attack of that name, after another stage."""
        standing = last.standing
        mine = self._replicas.of_this_worker(np.arange(len(standing)))
        to_attack = int((any_standing(standing) & mine).sum())
        number = list(self._costs).index((name, part.name))
        cost, *later = list(self._costs.values())[number:]
        time_left = TimeLeft(to_attack, cost, later)

        def finished(stood: int, fell: int) -> None:
            left = time_left.after(
                survivors.begun,
                survivors.fell,
                passes=in_forward_passes(survivors.forward, survivors.backward),
                seconds=survivors.seconds,
            )
            self.progress.add(stood=stood, fell=fell, left=left)

        survivors = Survivors(
            part,
            self._model,
            view,
            self._replicas,
            self._batch_size * self._replicas.count,
            finished,
            last,
            lambda images, labels: self._clean(images, labels)[1],
            # Square follows small differences of the loss, which are lost to rounding.
            self._search_dtype if part.white_box else FLOAT32,
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
        counts = np.array([survivors.forward, survivors.backward, survivors.refuted])
        forward, backward, refuted = map(int, self._replicas.of_all_workers(counts))
        left = self._replicas.of_all_workers(left).astype(bool)
        stage = Stage(left, survivors.seconds, forward, backward, refuted=refuted)
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
            "search_dtype": self._search_dtype,
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


def cost_to_withstand(part: Attack, view: Predictions) -> float:
    """What an example costs that withstands an attack, in forward passes."""
    step = in_forward_passes(*part.passes_of_a_step(view.classes))
    run = part.passes_of_a_start() + part.steps_of_a_run * step
    return part.runs(view.alternatives + 1) * run


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


def settings_of(attack: Attack, model: keras.Model) -> dict[str, Any]:
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
