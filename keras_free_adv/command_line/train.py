"""`keras-free-adv train`: a recipe, or a change of one, on its data or the user's."""

import contextlib
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import keras
from absl import flags

from keras_free_adv import (
    AveragedWeights,
    BackupAndRestore,
    PGDAttack,
    RobustnessEvaluation,
    backends,
    evaluate_robustness,
    files,
    pixel_scale,
)
from keras_free_adv.callbacks.epoch_seconds import EpochSeconds
from keras_free_adv.command_line import (
    console,
    model_card,
    run_folder,
    training_start,
)
from keras_free_adv.command_line.command import CommandError
from keras_free_adv.command_line.image_data import ImageData
from keras_free_adv.command_line.model_card import ModelCard
from keras_free_adv.command_line.recipes import named
from keras_free_adv.command_line.subject import Subject, subject
from keras_free_adv.distribution import workers
from keras_free_adv.distribution.named_strategy import named_strategy
from keras_free_adv.recipes import Recipe, building

# What a recipe has for its data set, whose data the user brings.
OWN_DATA = "yours"


def writes() -> bool:
    """Whether this process writes the files; of many workers the first one does."""
    return workers.worker_number(workers.strategy_in_force()) == 0


def exists(path: Path) -> bool:
    """Whether the first worker sees the file: all have to do the same."""
    seen = workers.of_each_worker(path.exists(), workers.strategy_in_force())
    return bool(seen[0])


def say(text: str) -> None:
    """Prints, once."""
    if writes():
        print(text, flush=True)


def run(values: flags.FlagValues, data: str | None = None) -> None:
    """Trains, saves and measures."""
    if values.recipe is None:
        raise CommandError(
            "--recipe=NAME is needed; `keras-free-adv recipes` lists them.", "recipe"
        )
    named(values.recipe)
    recipe = run_folder.changed_recipe(values.recipe, values.set)
    if values.show:
        print(json.dumps(_shown(recipe, values.weights), indent=2))
        return
    if recipe.dataset == OWN_DATA and data is None:
        raise CommandError(
            f"The recipe {recipe.name} has no data of its own: name some, such as "
            f"`keras-free-adv train photos/train --recipe={recipe.name}`."
        )
    if values.strategy != "single" and keras.backend.backend() != "tensorflow":
        raise CommandError(
            f"--strategy={values.strategy} is TensorFlow's. Received: Keras' backend "
            f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow, or leave "
            "--strategy out.",
            "strategy",
        )
    if values.monitor_every and (data is not None or values.weights is not None):
        raise CommandError(
            "--monitor_every is for a recipe on its own data set, with its own "
            "network. Leave it out, and evaluate the run when it is trained.",
            "monitor_every",
        )
    if values["test_examples"].present and (data is not None or values.weights):
        raise CommandError(
            "--test_examples is for a recipe on its own data, with its own network. "
            "Leave it out, and evaluate the run when it is trained.",
            "test_examples",
        )
    strategy = named_strategy(values.strategy)
    try:
        scope = contextlib.nullcontext() if strategy is None else strategy.scope()
        with scope, workers.explaining_lost_worker(strategy):
            _train(values, recipe, data)
    except workers.WorkerLost as error:
        raise CommandError(str(error)) from error


def _shown(recipe: Recipe, weights: str | None) -> dict[str, Any]:
    """The settings of a training; of the user's network its name."""
    settings = recipe.to_dict()
    if weights is None:
        return settings
    del settings["model"], settings["model_arguments"]
    return {"weights": weights, **settings}


def _train(values: flags.FlagValues, recipe: Recipe, data: str | None) -> None:
    """Trains, saves and measures, under the strategy in force."""
    keras.utils.set_random_seed(values.seed)
    if values.deterministic:
        backends.make_deterministic()
    start = None if values.weights is None else subject(values.weights)
    if data is not None:
        recipe = recipe.replaced(dataset=str(Path(data)))
    images = training_start.training_images(values, recipe, data, start)
    folder = _folder(values, recipe, data)
    # Not before: a folder is not to be bound to settings that cannot be trained.
    if writes():
        for name in (run_folder.SETTINGS, run_folder.HISTORY, run_folder.MODEL):
            files.discard_leftovers(folder / name)
        run_folder.settle(
            folder,
            recipe,
            values.seed,
            values.deterministic,
            weights=values.weights,
            class_names=images.class_names,
            own_data=data is not None,
            image_size=values.image_size,
            crop=values.crop,
            pixels=values.pixels,
            split=values.split,
        )
    training = Training(values, recipe, folder, images, start)
    model = training.model()
    if writes():
        seconds = run_folder.history_of(folder)["seconds"]
        print(
            f"Training took {sum(seconds) / 60:.1f} minutes for {recipe.updates:,} "
            f"updates; the fastest epoch of {recipe.steps_per_epoch} took "
            f"{min(seconds):.1f} s."
        )
    if values.test_examples and data is None and start is None:
        training.measure(model)
    say(f"Results: {folder}")
    if data is not None or start is not None:
        say(
            "How robust is it? On images that it was not trained on: keras-free-adv "
            f"evaluate {folder} photos/test"
        )


def _folder(values: flags.FlagValues, recipe: Recipe, data: str | None) -> Path:
    if values.output is not None:
        return Path(values.output)
    if data is None:
        return Path("runs", run_folder.folder_name(recipe, values.seed))
    seeded = f"-seed{values.seed}" if values.seed else ""
    changed = "-changed" if values.set else ""
    name = Path(data).stem.replace(":", ".") or "data"
    begun = f"-from-{Path(values.weights).stem}" if values.weights else ""
    return Path("runs", f"{recipe.name}{changed}-{name}{begun}{seeded}")


@dataclasses.dataclass(frozen=True)
class Training:
    """One training, that can be stopped and continued.

    Attributes:
        values: the flags.
        recipe: the settings.
        folder: of the run.
        images: what is trained on.
        start: the model whose weights it begins with; None for the recipe's network.
    """

    values: flags.FlagValues
    recipe: Recipe
    folder: Path
    images: ImageData
    start: Subject | None

    def model(self) -> keras.Model:
        """The run's model, trained now if it is not yet."""
        path = self.folder / run_folder.MODEL
        if exists(path):
            say(f"{path} is trained.")
            model = run_folder.loaded(path)
        else:
            model = self._trained()
            if writes():
                model_card.write(path, self._card(model))
                with files.atomic_write(path) as beside:
                    model.save(beside)
        if writes():  # here, for a run that was killed just after it was saved
            shutil.rmtree(self.folder / "backup", ignore_errors=True)
        return model

    def _trained(self) -> keras.Model:
        """Trains, or goes on training; returns the network in float32."""
        recipe, network = self.recipe, self._network()
        recipe_here = self._on_scale_of_the_network()
        model = building.compiled(recipe_here, network, self._value_range())
        backup = BackupAndRestore(str(self.folder / "backup"), delete_checkpoint=False)
        network_name = self.values.weights or recipe.model
        say(
            f"Training {network_name}: {recipe.updates:,} updates in {recipe.epochs} "
            f"epochs. (--set=epochs={max(recipe.epochs // 5, 1)} makes fewer.)"
        )
        if recipe.method != "natural":
            say(
                "The accuracy that is shown is that on the training images, under the "
                "training's own attack."
            )
        if backup.epoch:
            say(f"Continuing after epoch {backup.epoch} of {recipe.epochs}.")
        history = model.fit(
            self.images.minibatches,
            epochs=recipe.epochs,
            steps_per_epoch=recipe.steps_per_epoch,
            callbacks=self._callbacks(backup),
            verbose=self._verbose(),
        )
        if writes():
            path = self.folder / run_folder.HISTORY
            files.write_text(path, json.dumps(history.history))
        if self.start is not None:
            return network
        trained = self._network("float32")
        trained.set_weights(network.get_weights())
        return trained

    def _value_range(self) -> tuple[float, float] | None:
        """The range of the pixels, where the user's network or its card says it."""
        return None if self.start is None else self.start.value_range(None)

    def _on_scale_of_the_network(self) -> Recipe:
        """The recipe, its lengths on the scale of the pixels of the user's network."""
        if self.start is None:
            return self.recipe
        low, high = self.start.value_range(None)
        return self.recipe.replaced(epsilon=self.recipe.epsilon * (high - low))

    def _card(self, model: keras.Model) -> ModelCard:
        """What the model's file does not know, wherever it is copied to."""
        recipe, natural = self.recipe, self.recipe.method == "natural"
        return ModelCard(
            epsilon=None if natural else recipe.epsilon,
            norm=None if natural else recipe.norm,
            value_range=self._value_range() or pixel_scale.resolve(None, model),
            class_names=self.images.class_names,
        )

    def _network(self, policy: str | None = None) -> keras.Model:
        """The recipe's network, or the user's, for the classes of the data."""
        return training_start.network(self.recipe, self.images, self.start, policy)

    def _callbacks(self, backup: BackupAndRestore) -> list[keras.callbacks.Callback]:
        """In their order: what others read comes first, the backup last."""
        found: list[keras.callbacks.Callback] = [EpochSeconds()]
        recipe, values = self.recipe, self.values
        if recipe.ema_momentum is not None:
            found.append(AveragedWeights())
        if values.monitor_every:
            test = building.data(recipe, recipe.test_split, data_dir=values.data_dir)
            images, labels = next(iter(test.unbatch().batch(values.monitor_examples)))
            attack = PGDAttack(
                recipe.epsilon, step_size=recipe.epsilon / 4, norm=recipe.norm, seed=0
            )
            found.append(
                RobustnessEvaluation(
                    (images.numpy(), labels.numpy()),
                    attack,
                    evaluation_freq=values.monitor_every,
                    max_examples=values.monitor_examples,
                )
            )
        return [*found, backup]

    def measure(self, model: keras.Model) -> None:
        """The columns of the paper's table, on the first test images."""
        recipe, count = self.recipe, self.values.test_examples
        path = run_folder.report_path(self.folder, "paper", count)
        if exists(path):
            say(path.with_suffix(".md").read_text())
            path.with_suffix(".partial").unlink(missing_ok=True)
            return
        test = building.data(recipe, recipe.test_split, data_dir=self.values.data_dir)
        with console.without_warnings():  # the report has them
            report = evaluate_robustness(
                model,
                test,
                building.attacks(recipe),
                max_examples=count,
                resume=path.with_suffix(".partial"),
                verbose=self._verbose(),
            )
        if writes():
            published = report.to_markdown(recipe.published)
            report.to_html(path.with_suffix(".html"))
            files.write_text(path.with_suffix(".md"), published)
            files.write_text(path, report.to_json())
            path.with_suffix(".partial").unlink(missing_ok=True)
        say(report.to_text(recipe.published))

    def _verbose(self) -> str | int:
        """As Keras takes it; of many workers the first one speaks."""
        said = self.values.verbose
        if not writes():
            return 0
        if said == "auto" and not sys.stdout.isatty():
            return 2  # a line for each epoch
        return said if said == "auto" else int(said)
