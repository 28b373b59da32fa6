"""One training, as plain data."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from keras_free_adv import validation

METHODS = ("natural", "free", "pgd", "trades")
SCHEDULES = ("constant", "piecewise", "cosine", "cyclic")
DECAYED = ("kernels", "all")
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
AUGMENTATIONS = ("none", "standard", "standard_pad2")  # of datasets.load
LIBRARIES = ("keras.applications",)
ZOO = ("wide_resnet", "preact_resnet18", "small_cnn")

# Returns a setting as it is kept, given its name and what was passed, or raises.
Check = Callable[[str, Any], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A data set, a model, a method and its settings: everything a training needs.

    Numbers, strings, and dicts and tuples of them; no objects. Images are in [0, 1],
    and `epsilon` and `step_size` on that scale.

    Attributes:
        name: of the recipe.
        dataset: name for `datasets.load`.
        train_split: split to train on.
        test_split: split to attack.
        augment: as of `datasets.load`.
        drop_remainder: whether to leave out the short last minibatch of a pass.
        model: a function of `zoo` ("wide_resnet", "preact_resnet18", "small_cnn"), or
            "keras.applications.NAME".
        model_arguments: its arguments, without `classes` and `input_shape`.
        method: "natural", "free", "pgd" or "trades".
        method_arguments: of the method's model: `replays` or `steps`, `step_size`...
        epsilon: radius of the ball, on the [0, 1] scale.
        norm: "linf" or "l2".
        batch_size: images in a minibatch.
        epochs: epochs of `steps_per_epoch` updates.
        steps_per_epoch: updates in an epoch, for `fit`; free training counts replays
            as updates.
        learning_rate: the largest.
        schedule: "constant"; "piecewise": divided by 10 at each of `drops`; "cosine":
            falls to 0; "cyclic": rises in a line from 0 over the share `rise` of the
            updates, and falls in a line to 0.
        drops: updates after which a piecewise schedule drops.
        rise: share of the updates in which a cyclic schedule rises.
        momentum: of SGD.
        weight_decay: an L2 term in the loss, (weight_decay / 2) * sum of squares.
        decayed: the weights it counts: "kernels" (of convolutions and dense layers),
            or "all".
        label_smoothing: share of the label that is given to all classes alike.
        ema_momentum: of the averaged weights that are kept, or None for no averaging.
        epsilon_warmup: updates over which epsilon grows from 0.
        policy: Keras' dtype policy of training.
        attacks: columns of the evaluation, for `paper_attacks`.
        published: published figures of this row, in percent: "natural", and the names
            of attacks.
        published_minutes: published training time, or None.
        published_on: what the published figures were measured with, where that is
            not this recipe.
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
    norm: str = "linf"
    batch_size: int
    epochs: int
    steps_per_epoch: int
    learning_rate: float
    schedule: str
    drops: tuple[int, ...] = ()
    rise: float = 0.0
    momentum: float = 0.9
    weight_decay: float
    decayed: str
    label_smoothing: float = 0.0
    ema_momentum: float | None = None
    epsilon_warmup: int = 0
    policy: str = "float32"
    attacks: str
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    published_minutes: float | None = None
    published_on: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            self._set(name, check(name, getattr(self, name)))
        library = self.model.rpartition(".")[0]
        if self.model not in ZOO and library not in LIBRARIES:
            raise ValueError(
                f"Argument `model` must be one of {', '.join(ZOO)}, or "
                f"keras.applications.NAME. Received: model={self.model!r}."
            )
        self._check_drops()
        known = METHOD_ARGUMENTS[self.method]
        arguments = _checked("method", self.method, self.method_arguments, known)
        self._set("method_arguments", arguments)
        if self.model in ZOO:
            known = MODEL_ARGUMENTS.get(self.model, set())
            arguments = _checked("model", self.model, self.model_arguments, known)
            self._set("model_arguments", arguments)

    def _set(self, name: str, value: Any) -> None:
        """A field, when it is made: as it was checked, without NumPy's types."""
        object.__setattr__(self, name, value)

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
        """Plain data, as JSON holds it."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }

    def replaced(self, **changes: Any) -> "Recipe":
        """The recipe with some settings changed.

        `method_arguments` and `model_arguments` are merged into those there are; a
        setting that belongs into one of them may be given by its own name, such as
        `replays=4` or `width=16`. A schedule keeps its proportions when the length
        changes, and a step size its share of epsilon. What was published of another
        training is left out.

        Raises:
            TypeError, ValueError: an unknown setting, or a wrong value.
        """
        if not changes:
            return self
        # What the rest is worked out from.
        for name in _CHECKS.keys() & changes.keys():
            changes[name] = _CHECKS[name](name, changes[name])
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
        """What stays of the settings, as far as it fits the changes."""
        settings = {**self.to_dict(), "published": {}, "published_minutes": None}
        settings["published_on"] = ""
        for kind, known in (("method", METHOD_ARGUMENTS), ("model", MODEL_ARGUMENTS)):
            settings[kind] = changes.get(kind, settings[kind])
            if settings[kind] != getattr(self, kind):
                taken = known.get(settings[kind], set())
                arguments = settings[f"{kind}_arguments"]
                settings[f"{kind}_arguments"] = {
                    name: value for name, value in arguments.items() if name in taken
                }
        arguments = settings["method_arguments"]
        if "step_size" in arguments:
            arguments["step_size"] *= (
                changes.get("epsilon", self.epsilon) / self.epsilon
            )
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
        fields = [field.name for field in dataclasses.fields(self)]
        return sorted(
            {
                *fields,
                *METHOD_ARGUMENTS[self.method],
                *MODEL_ARGUMENTS.get(self.model, ()),
            }
        )


# What the method's model and the zoo's functions take, apart from what each takes.
METHOD_ARGUMENTS: dict[str, set[str]] = {
    "natural": set(),
    "free": {"replays", "step_size"},
    "pgd": {"steps", "step_size", "random_start"},
    "trades": {"steps", "step_size", "beta"},
}
MODEL_ARGUMENTS: dict[str, set[str]] = {
    "wide_resnet": {"depth", "width"},
    "preact_resnet18": {"width"},
}


def from_dict(settings: Mapping[str, Any]) -> Recipe:
    """A recipe from `to_dict()`, also when that went through JSON.

    Raises:
        ValueError: a setting is unknown, missing or wrong.
    """
    settings = validation.mapping("settings", settings)
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


def _one_of(*choices: str) -> Check:
    return lambda name, value: validation.one_of(name, value, choices)


def _or_none(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _share(name: str, value: Any) -> float:
    share = validation.finite_number(name, value)
    if not 0.0 <= share < 1.0:
        raise ValueError(
            f"Argument `{name}` must be at least 0 and below 1. Received: "
            f"{name}={value!r}."
        )
    return share


def _figures(name: str, value: Any) -> dict[str, float]:
    figures = validation.mapping(name, value)
    return {
        key: validation.finite_number(f"{name}[{key!r}]", figures[key])
        for key in figures
    }


_CHECKS: dict[str, Check] = {
    "name": validation.text,
    "dataset": validation.text,
    "train_split": validation.text,
    "test_split": validation.text,
    "augment": _one_of(*AUGMENTATIONS),
    "drop_remainder": validation.boolean,
    "model": validation.text,
    "model_arguments": validation.mapping,
    "method": _one_of(*METHODS),
    "method_arguments": validation.mapping,
    "epsilon": validation.positive_number,
    "norm": _one_of("linf", "l2"),
    "batch_size": validation.positive_integer,
    "epochs": validation.positive_integer,
    "steps_per_epoch": validation.positive_integer,
    "learning_rate": validation.positive_number,
    "schedule": _one_of(*SCHEDULES),
    "rise": _share,
    "momentum": _share,
    "weight_decay": validation.not_negative,
    "decayed": _one_of(*DECAYED),
    "label_smoothing": _share,
    "ema_momentum": _or_none(_share),
    "epsilon_warmup": validation.whole_number,
    "policy": _one_of(*POLICIES),
    "attacks": _one_of("cifar10", "cifar100", "imagenet"),
    "published": _figures,
    "published_minutes": _or_none(validation.positive_number),
    "published_on": validation.text,
    "source": validation.text,
}


def _checked(
    owner: str, called: str, arguments: Mapping[str, Any], known: set[str]
) -> dict[str, Any]:
    """The arguments as they are passed on; raises if one is unknown or wrong."""
    checked: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in known:
            raise ValueError(
                f"Argument `{owner}_arguments` must hold what the {owner} {called!r} "
                f"takes: {', '.join(sorted(known)) or 'none'}. Received: {name!r}."
            )
        if name in ("replays", "steps", "depth", "width"):
            checked[name] = validation.positive_integer(name, value)
        elif name == "random_start":
            checked[name] = validation.boolean(name, value)
        else:
            checked[name] = validation.positive_number(name, value)
    return checked


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
