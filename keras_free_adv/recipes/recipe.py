"""One training, as plain data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_free_adv import renamed_arguments, validation
from keras_free_adv.recipes.setting_checks import (
    CHECKS,
    METHOD_ARGUMENTS,
    MODEL_ARGUMENTS,
    check_arguments,
)
from keras_free_adv.tables import html_table, markdown, settings_rows


@renamed_arguments.refuses_old_names(renamed_arguments.RECIPE)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A data set, a model, a method and its settings: everything a training needs.

    Numbers, strings, and dicts and tuples of them; no objects. Images are in [0, 1],
    and `epsilon` and `step_size` on that scale.

    Attributes:
        name: name of the recipe.
        dataset: name for `datasets.load`.
        train_split: split to train on.
        test_split: split to attack.
        augment: see `datasets.load`.
        drop_remainder: whether to leave out the short last minibatch of a pass.
        model: a function of `zoo` ("wide_resnet", "preact_resnet18", "compact_resnet",
            "small_cnn"), or "keras.applications.NAME".
        model_arguments: its arguments, without `classes` and `input_shape`.
        method: "natural", "free", "pgd" or "trades".
        method_arguments: arguments of the method: `replays` or `steps`, `step_size`...
        epsilon: radius of the ball, on the [0, 1] scale.
        training_epsilon: radius of the ball of the training, where that is another one:
            a short training gets more robust with a larger one. None for `epsilon`.
        norm: "linf" or "l2".
        batch_size: images in a minibatch.
        epochs: epochs of `steps_per_epoch` updates.
        steps_per_epoch: updates in an epoch, for `fit`; free training counts replays
            as updates.
        optimizer: "sgd", or "muon" (`optimizers.Muon`).
        learning_rate: largest learning rate.
        schedule: "constant"; "piecewise": divided by 10 at each of `drops`; "cosine":
            falls to 0; "cyclic": rises linearly from 0 over the share `rise` of the
            updates, then falls linearly to 0.
        drops: updates after which a piecewise schedule drops.
        rise: share of the updates in which a cyclic schedule rises.
        momentum: momentum of the optimizer.
        weight_decay: an L2 term in the loss, (weight_decay / 2) * sum of squares.
        decayed: the weights in that sum: "kernels" (of convolutions and dense layers),
            or "all".
        label_smoothing: share of the label that is spread over all classes.
        ema_momentum: momentum of the averaged weights, or None for no averaging.
        epsilon_warmup_steps: updates over which epsilon grows from 0.
        policy: Keras' dtype policy for training.
        attacks: columns of the evaluation, for `paper_attacks`.
        published: published figures of this row, in percent: "natural", and the names
            of attacks.
        published_minutes: published training time, or None.
        published_on: the training that the published figures belong to, if it is
            another one.
        source: where settings and figures are from.
    """

    name: str
    dataset: str
    train_split: str = "train"
    test_split: str = "test"
    augment: str = "standard"
    drop_remainder: bool = False
    model: str
    model_arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    method: str
    method_arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    epsilon: float
    training_epsilon: float | None = None
    norm: str = "linf"
    batch_size: int
    epochs: int
    steps_per_epoch: int
    optimizer: str = "sgd"
    learning_rate: float
    schedule: str
    drops: tuple[int, ...] = ()
    rise: float = 0.0
    momentum: float = 0.9
    weight_decay: float
    decayed: str
    label_smoothing: float = 0.0
    ema_momentum: float | None = None
    epsilon_warmup_steps: int = 0
    policy: str = "float32"
    attacks: str
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    published_minutes: float | None = None
    published_on: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        checked = {
            name: check(name, getattr(self, name)) for name, check in CHECKS.items()
        }
        for kind, known in (("method", METHOD_ARGUMENTS), ("model", MODEL_ARGUMENTS)):
            name = f"{kind}_arguments"
            if checked[kind] in known:  # else of keras.applications, which checks them
                checked[name] = check_arguments(
                    kind, checked[kind], checked[name], known[checked[kind]]
                )
        # A checked value is a plain one, without NumPy's types.
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self._check_drops()

    def _check_drops(self) -> None:
        drops = self.drops
        whole = isinstance(drops, tuple) and all(type(d) is int for d in drops)
        rising = whole and list(drops) == sorted(set(drops))
        inside = rising and all(0 < drop < self.updates for drop in drops)
        if not inside or (self.schedule == "piecewise" and not drops):
            raise ValueError(
                "Argument `drops` must be rising numbers of updates, above 0 and below "
                f"the {self.updates} of the training; a piecewise schedule needs one. "
                f"Received: drops={drops!r} with schedule={self.schedule!r}. Pass "
                "drops=[n, ...], or another schedule."
            )

    @property
    def updates(self) -> int:
        """Updates of the whole training."""
        return self.epochs * self.steps_per_epoch

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data that JSON can hold."""
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in vars(self).items()
        } | {"drops": list(self.drops)}

    def _repr_html_(self) -> str:
        """As notebooks show it."""
        return html_table(self._rows())

    def _repr_markdown_(self) -> str:
        return markdown(self._rows())

    def _rows(self) -> list[list[str]]:
        settings = self.to_dict()
        return settings_rows(settings.pop("name"), settings)

    def replaced(self, **changes: Any) -> "Recipe":
        """The recipe with some settings changed.

        `method_arguments` and `model_arguments` are merged into the present ones; a
        setting in one of them may be given by its own name, such as `replays=4` or
        `width=16`. A schedule keeps its proportions when the length changes, a step
        size and the epsilon of the training their share of epsilon. Published figures
        belong to another training, and are left out.

        Raises:
            TypeError, ValueError: an unknown setting, or a wrong value.
        """
        if not changes:
            return self
        renamed_arguments.refuse_old_names(changes, renamed_arguments.RECIPE)
        # Other settings are computed from these.
        for name in CHECKS.keys() & changes.keys():
            changes[name] = CHECKS[name](name, changes[name])
        settings = self._inherited(changes)
        for name, value in changes.items():
            if name in ("method_arguments", "model_arguments"):
                settings[name].update(value)
            elif name in settings:
                settings[name] = value
            elif name in METHOD_ARGUMENTS.get(settings["method"], ()):
                settings["method_arguments"][name] = value
            elif name in MODEL_ARGUMENTS.get(settings["model"], ()):
                settings["model_arguments"][name] = value
            else:
                raise ValueError(
                    f"Argument `{name}`: a recipe has no such setting. Settings of "
                    f"this one: {', '.join(self.settings())}."
                )
        return from_dict(settings)

    def _inherited(self, changes: dict[str, Any]) -> dict[str, Any]:
        """The settings to change, those that do not fit the changes adjusted."""
        settings = {**self.to_dict(), "published": {}, "published_minutes": None}
        settings["published_on"] = ""
        for kind, known in (("method", METHOD_ARGUMENTS), ("model", MODEL_ARGUMENTS)):
            settings[kind] = changes.get(kind, settings[kind])
            if settings[kind] != getattr(self, kind):
                accepted = known.get(settings[kind], set())
                arguments = settings[f"{kind}_arguments"]
                settings[f"{kind}_arguments"] = {
                    name: value for name, value in arguments.items() if name in accepted
                }
        arguments = settings["method_arguments"]
        scale = changes.get("epsilon", self.epsilon) / self.epsilon
        if "step_size" in arguments:
            arguments["step_size"] *= scale
        if settings["training_epsilon"] is not None:
            settings["training_epsilon"] *= scale
        updates = changes.get("epochs", self.epochs) * changes.get(
            "steps_per_epoch", self.steps_per_epoch
        )
        drops = {round(drop * updates / self.updates) for drop in self.drops}
        settings["drops"] = sorted(drop for drop in drops if 0 < drop < updates)
        if changes.get("schedule", self.schedule) != "piecewise":
            settings["drops"] = []
        return settings

    def settings(self) -> list[str]:
        """The names that `replaced` takes."""
        own = {*METHOD_ARGUMENTS[self.method], *MODEL_ARGUMENTS.get(self.model, ())}
        return sorted({*vars(self), *own})


def from_dict(settings: Mapping[str, Any]) -> Recipe:
    """A recipe from `to_dict()`, also when that went through JSON.

    Settings that the first release wrote are taken too.

    Raises:
        ValueError: a setting is unknown, missing or wrong.
    """
    settings = validation.mapping("settings", settings)
    settings = renamed_arguments.with_new_names(settings, renamed_arguments.RECIPE)
    fields = {field.name: field for field in dataclasses.fields(Recipe)}
    unknown = sorted(set(settings) - set(fields))
    if unknown:
        raise ValueError(
            f"Argument `settings`: a recipe has no {', '.join(map(repr, unknown))}."
        )
    absent = dataclasses.MISSING
    missing = sorted(
        name
        for name, field in fields.items()
        if field.default is field.default_factory is absent and name not in settings
    )
    if missing:
        raise ValueError(f"Argument `settings` must have {', '.join(missing)}.")
    drops = settings.get("drops", ())
    if isinstance(drops, list):
        drops = tuple(drops)
    return Recipe(**{**settings, "drops": drops})
