"""AutoAttack: the standard ensemble of parameter-free attacks."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_free_adv import backends, image_axes, validation
from keras_free_adv.attacks.apgd_attack import APGDAttack
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.fab_attack import FABAttack
from keras_free_adv.attacks.outcome import Outcome, any_label, choose
from keras_free_adv.attacks.square_attack import SquareAttack
from keras_free_adv.predictions import AUTO, Predictions

VERSIONS = ("standard", "plus", "rand")
RAND_SAMPLES = 20


@keras.saving.register_keras_serializable("keras_free_adv")
class AutoAttack(Attack):
    """AutoAttack of Croce and Hein (2020), as a Keras layer.

    Several attacks in a row, each on what the former left standing, with nothing to
    tune. Robust accuracy under "standard" is what RobustBench lists.

    - "standard": APGD on the cross-entropy, APGD on the targeted DLR loss with 9
      target classes, targeted FAB with 9, and Square with 5,000 queries; one restart
      each.
    - "plus": APGD on the cross-entropy and on the DLR loss and untargeted FAB, 5
      restarts each, Square, then targeted APGD and targeted FAB.
    - "rand", for models that draw random numbers: APGD on the cross-entropy and on
      the DLR loss, with the mean of 20 gradients in each step.

    Reference: Croce and Hein, "Reliable evaluation of adversarial robustness with an
    ensemble of diverse parameter-free attacks", ICML 2020, section 5.

    Args:
        epsilon: radius of the ball, on the pixel scale (8 / 255 for images in [0, 1]).
        norm: "linf" or "l2", of each example.
        version: "standard", "plus" or "rand".
        attacks: a list of attacks to run in place of a version's. Those without a seed
            get this one's, as those without a `value_range` or `data_format`.
        value_range: lowest and highest pixel value; None for the model's own, see
            `keras_free_adv.pixel_scale`.
        from_logits: whether the model returns logits; see `PGDAttack`.
        predicts: what the model predicts; see `PGDAttack`.
        seed: random numbers of all parts follow from it.
        name: name in reports; "autoattack" (with the version, if it is not standard)
            by default.
        data_format: of Square: which axis of the images holds the channels; see
            `SquareAttack`.

    Call arguments and errors are those of `PGDAttack`.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(5)])
    >>> [part.name for part in AutoAttack(epsilon=8 / 255).parts()]
    ['apgd_ce', 'apgd_t', 'fab_t', 'square']
    >>> short = AutoAttack(0.1, attacks=[APGDAttack(0.1, steps=5), FABAttack(0.1)])
    >>> images = np.random.rand(2, 4, 4, 1).astype("float32")
    >>> adversarial = short(images, np.array([0, 2]), model=network)
    >>> bool(np.abs(adversarial - images).max() <= 0.1 + 1e-6)
    True
    """

    def __init__(
        self,
        epsilon: float,
        *,
        norm: str = "linf",
        version: str = "standard",
        attacks: Sequence[Attack] | None = None,
        value_range: tuple[float, float] | None = None,
        from_logits: bool | str = "auto",
        predicts: str = AUTO,
        seed: int | None = None,
        name: str | None = None,
        data_format: str | None = None,
    ) -> None:
        version = validation.one_of("version", version, VERSIONS)
        if value_range is None:
            value_range = _range_of(attacks)
        stem = "autoattack" if version == "standard" else f"autoattack_{version}"
        super().__init__(
            epsilon,
            restarts=1,
            norm=norm,
            targeted=False,
            value_range=value_range,
            from_logits=from_logits,
            predicts=predicts,
            seed=seed,
            name=name,
            stem=stem,
        )
        self.version = version
        self.data_format = image_axes.checked(data_format)
        self.attacks = None if attacks is None else _checked(attacks, self)
        self._parts = (
            self._parts_of_version()
            if self.attacks is None
            else [self._completed(attack) for attack in self.attacks]
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        del config["restarts"]
        attacks = self.attacks and [
            keras.saving.serialize_keras_object(attack) for attack in self.attacks
        ]
        return {
            **config,
            "version": self.version,
            "attacks": attacks,
            "data_format": self.data_format,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AutoAttack":
        """Makes the attack from `get_config()`."""
        attacks = config["attacks"] and [
            keras.saving.deserialize_keras_object(attack)
            for attack in config["attacks"]
        ]
        return cls(**{**config, "attacks": attacks})

    def parts(self) -> list[Attack]:
        """The attacks, in their order."""
        return list(self._parts)

    def attacked(
        self, model: keras.Model, view: Predictions, images: Any, labels: Any, ids: Any
    ) -> Outcome:
        """Each part on the examples that the former left standing."""
        compiled = self._parts[0].compiled(model, view, images, labels)
        best, _ = compiled.clean(images, labels)
        for part in self._parts:
            fooled = any_label(best.fooled)
            if backends.is_symbolic(fooled):  # values decide nothing in a graph
                found = part.attacked(model, view, images, labels, ids)
                best = Outcome(
                    *(choose(fooled, *pair) for pair in zip(best, found, strict=True))
                )
                continue
            standing = np.flatnonzero(~ops.convert_to_numpy(fooled))
            if not len(standing):
                break
            rows = (ops.take(each, standing, axis=0) for each in (images, labels, ids))
            found = part.attacked(model, view, *rows)
            best = Outcome(
                *(
                    ops.scatter_update(old, standing[:, None], new)
                    for old, new in zip(best, found, strict=True)
                )
            )
        return best

    def check_images(self, shape: tuple[int, ...], model: keras.Model) -> None:
        """What each of its parts asks for."""
        for part in self._parts:
            part.check_images(shape, model)

    def caveats(self, view: Predictions) -> list[str]:
        """Those of its parts."""
        return [said for part in self._parts for said in part.caveats(view)]

    def _completed(self, attack: Attack) -> Attack:
        """The attack itself, or a copy that takes from this one what it leaves open."""
        config = attack.get_config()
        mine = {
            "seed": self.seed_in_use,
            "value_range": self.value_range,
            "data_format": self.data_format,
        }
        missing = {
            name: value
            for name, value in mine.items()
            if value is not None and name in config and config[name] is None
        }
        return attack.from_config({**config, **missing}) if missing else attack

    def _parts_of_version(self) -> list[Attack]:
        shared: dict[str, Any] = {
            "norm": self.norm,
            "value_range": self.value_range,
            "from_logits": self.from_logits,
            "predicts": self.predicts,
            "seed": self.seed_in_use,
        }

        def apgd(loss: str, **settings: Any) -> Attack:
            return APGDAttack(self.epsilon, loss=loss, **shared, **settings)

        def fab(**settings: Any) -> Attack:
            return FABAttack(self.epsilon, **shared, **settings)

        square = SquareAttack(
            self.epsilon,
            data_format=self.data_format,
            rescale_schedule=False,
            **shared,
        )
        if self.version == "standard":
            return [apgd("cross_entropy"), apgd("targeted_dlr"), fab(), square]
        if self.version == "plus":
            return [
                apgd("cross_entropy", restarts=5),
                apgd("dlr", restarts=5),
                fab(targets=None, restarts=5),
                square,
                apgd("targeted_dlr"),
                fab(),
            ]
        return [
            apgd("cross_entropy", gradient_samples=RAND_SAMPLES),
            apgd("dlr", gradient_samples=RAND_SAMPLES),
        ]


def _range_of(attacks: Any) -> tuple[float, float] | None:
    """The one `value_range` that is given to any of the attacks, or None."""
    attacks = attacks if isinstance(attacks, (list, tuple)) else []
    given = {getattr(attack, "value_range", None) for attack in attacks} - {None}
    return given.pop() if len(given) == 1 else None


def _checked(attacks: Any, whole: Attack) -> list[Attack]:
    """Returns `attacks` as a list, or raises if they are not parts of `whole`."""
    attacks = list(attacks) if isinstance(attacks, (list, tuple)) else [attacks]
    for attack in attacks:
        simple = isinstance(attack, Attack) and not isinstance(attack, AutoAttack)
        if not simple or attack.targeted:
            raise ValueError(
                "Argument `attacks` must be a list of untargeted attacks, such as "
                f"[APGDAttack(8 / 255)]. Received: {attack!r}."
            )
        for setting in ("epsilon", "norm", "value_range", "from_logits", "predicts"):
            mine, its = getattr(whole, setting), getattr(attack, setting)
            open_to_both = setting == "value_range" and its is None
            if mine != its and not open_to_both:
                raise ValueError(
                    f"Argument `attacks` must hold attacks of one `{setting}`, that "
                    f"of the whole ({mine!r}). Received: {attack.name!r} with "
                    f"{setting}={its!r}."
                )
    names = [attack.name for attack in attacks]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            "Argument `attacks` must hold at least one attack, and each name once. "
            f"Received: {names}. Pass name=... to tell them apart."
        )
    return attacks
