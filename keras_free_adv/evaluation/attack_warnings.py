"""Warnings of gradient masking: attacks that break less than they should."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.fab_attack import FABAttack
from keras_free_adv.evaluation.model_warnings import climbs_cross_entropy, is_random
from keras_free_adv.evaluation.probe import Probe, Probes
from keras_free_adv.evaluation.robustness_report import NATURAL, RobustnessReport
from keras_free_adv.evaluation.setting_warnings import (
    ROUNDING,
    jumps_across,
    reaches_the_edge,
)

# A difference must exceed this share of the examples, and be significant in a one-sided
# test at 5%, in which fewer than 3 examples never are.
SHARE = 0.01
Z_ONE_SIDED = 1.645
# An attack that climbs a single loss also misses examples of models whose gradient is
# not masked: on some with 64 pixels Square breaks 6.5% of the examples more than any
# attack on the cross-entropy, and 3% more than one on the margin, but not more than
# both together. So a masked gradient is diagnosed from a larger share on, if all
# attacks climb one loss. For a smaller share their accuracy is only called too high.
SHARE_AGAINST_ONE_LOSS = 0.1
# An attack with fewer steps is not strong.
STRONG_STEPS = 10
# Settings that should break more examples as they grow.
EFFORTS = ("epsilon", "steps", "restarts", "queries")

# Why an attack is weak.
BLACK_BOX = "which sees no gradient"
ONE_STEP = "which makes one step"
_MISLED = (
    "the model's gradient misleads attacks that follow it, and robust accuracy may be "
    "lower than any number here. Run SquareAttack with more queries, and look for what "
    "hides the gradient (Athalye et al. 2018)."
)
_MISLED_OR_WRONG_LOSS = (
    "their loss is a poor guide here, or the model's gradient misleads all attacks "
    "that follow it. Add APGDAttack with loss='cross_entropy' and with loss='dlr'; if "
    "they do no better, look for what hides the gradient (Athalye et al. 2018)."
)


def beaten_by_a_weaker_attack(
    report: RobustnessReport, attacks: list[Attack], probes: Probes
) -> Iterator[str]:
    """A black-box or one-step attack that breaks examples which white-box ones leave.

    White-box attacks should break more, at least together. If they miss significantly
    many examples, their accuracy is too high; if they miss more, the gradient misleads.
    """
    if is_random(probes):  # chance decides, and a comparison proves nothing
        return
    for weak in attacks:
        kind = _weakness(weak)
        rivals = [other for other in attacks if kind and _should_beat(other, weak)]
        # FAB looks for the nearest boundary, not for the worst point of the ball: the
        # examples it misses are no evidence about the gradient.
        strong = [rival for rival in rivals if is_strong(rival)]
        warning = kind and _misled_by_gradient(report, weak, kind, strong)
        if warning := warning or _overestimate(report, weak, rivals):
            yield warning


def _should_beat(other: Attack, weak: Attack) -> bool:
    """Whether `other` makes many steps along a gradient in a ball at least as large."""
    return (
        other is not weak
        and any(_follows_the_gradient(part) for part in other.parts())
        and weak.norm == other.norm
        and weak.epsilon <= other.epsilon
    )


def _misled_by_gradient(
    report: RobustnessReport, weak: Attack, kind: str, strong: list[Attack]
) -> str | None:
    """The warning that strong attacks miss so much that the gradient misleads them."""
    if not strong:
        return None
    survivors = np.logical_and.reduce([report.robust[a.name] for a in strong])
    more, fewer = _broken_by_one_only(report.robust[weak.name], survivors)
    parts = [part for attack in strong for part in attack.parts()]
    share, meaning = _needed_to_beat(parts, weak.parts())
    if not _is_significant(more, fewer, report.examples, share):
        return None
    return (
        f"{weak.name}, {kind}, breaks {more - fewer} examples more than "
        f"{_together(strong)}, which should be stronger: it leaves "
        f"{report.accuracy[weak.name]:.2%}, and they {survivors.mean():.2%}. "
        f"Accuracy under them is overestimated: {meaning}"
    )


def _overestimate(
    report: RobustnessReport, weak: Attack, rivals: list[Attack]
) -> str | None:
    """The warning that accuracy under `rivals` is too high, and by how much."""
    if not rivals:
        return None
    survivors = np.logical_and.reduce([report.robust[a.name] for a in rivals])
    more, fewer = _broken_by_one_only(report.robust[weak.name], survivors)
    if not _is_significant(more, fewer, report.examples):
        return None
    points = 100 * (more - fewer) / report.examples
    return (
        f"{weak.name} broke {more} images that {_together(rivals)} left ({fewer} the "
        f"other way): accuracy under {_together(rivals)} is too high by {points:.0f} "
        f"point{'' if f'{points:.0f}' == '1' else 's'}; quote the worst case, "
        f"{report.worst_case:.2%}."
    )


def _together(attacks: list[Attack]) -> str:
    return " and ".join(attack.name for attack in attacks)


def beaten_inside_an_ensemble(
    report: RobustnessReport, attacks: list[Attack], probes: Probes
) -> Iterator[str]:
    """A black-box part that breaks many examples after strong white-box ones.

    A few need no warning, as the accuracy of an ensemble is that of its worst case.
    """
    if is_random(probes):
        return
    for attack in attacks:
        before = report.accuracy[NATURAL]
        earlier: list[Attack] = []
        for part in attack.parts() if len(attack.parts()) > 1 else []:
            after = report.stages[attack.name][part.name]
            broken = round((before - after) * report.examples)
            share, meaning = _needed_to_beat(earlier, [part])
            if (
                not part.white_box
                and any(_is_strong_part(former) for former in earlier)
                and _is_significant(broken, 0, report.examples, share)
            ):
                yield (
                    f"{attack.name}: {part.name}, {BLACK_BOX}, breaks {broken} "
                    f"examples more ({before:.2%} to {after:.2%}) after the attacks "
                    f"with gradients: {meaning}"
                )
            before, earlier = after, [*earlier, part]


def less_broken_with_more_effort(
    report: RobustnessReport, attacks: list[Attack], probes: Probes
) -> Iterator[str]:
    """More steps, restarts or queries, or a larger epsilon, that raise accuracy."""
    if is_random(probes):
        return
    for weaker, stronger in itertools.permutations(attacks, 2):
        setting = _effort_between(weaker, stronger)
        # `beaten_by_a_weaker_attack` compares one step with many.
        if not setting or (_weakness(weaker) == ONE_STEP and is_strong(stronger)):
            continue
        more, fewer = _broken_by_one_only(
            report.robust[weaker.name], report.robust[stronger.name]
        )
        if _is_significant(more, fewer, report.examples):
            yield (
                f"{stronger.name} ({setting}={getattr(stronger, setting):g}) breaks "
                f"{more - fewer} examples fewer than {weaker.name} ({setting}="
                f"{getattr(weaker, setting):g}), which leaves "
                f"{report.accuracy[weaker.name]:.2%} and not "
                f"{report.accuracy[stronger.name]:.2%}: with more {setting} it misses "
                "what is there, so its accuracy is overestimated. Use APGDAttack, or "
                "more and smaller steps; if that does not help, the gradient misleads: "
                "use SquareAttack."
            )


def too_many_survivors(
    report: RobustnessReport, attacks: list[Attack], probes: Probes
) -> list[str]:
    """Surviving examples whose ball is so large that it must hold adversarial ones."""
    return [
        f"{attack.name}: accuracy is {report.accuracy[attack.name]:.2%} although "
        f"{why}. The attack fails here, and may fail at smaller epsilon: use more "
        "steps, APGDAttack or SquareAttack. If accuracy stays, look for saturated "
        "outputs or operations without a gradient."
        for attack in attacks
        if (why := _why_too_accurate(report, attack, probes[attack.name]))
    ]


def summed_over_labels(report: RobustnessReport, attacks: list[Attack]) -> list[str]:
    """Only attacks on a sum over the labels, if the model predicts several at once."""
    single_label = any(
        not climbs_cross_entropy(part) for attack in attacks for part in attack.parts()
    )
    if single_label or not report.label_accuracy:
        return []
    return [
        f"{' and '.join(attack.name for attack in attacks)}: the loss that was climbed "
        "is the sum over the labels, which gives up one label that could be broken for "
        "a rise of the others, so that exact match is overestimated. Add "
        "PGDAttack(loss='cw_margin') or AutoAttack, which aim at one label."
    ]


def _why_too_accurate(
    report: RobustnessReport, attack: Attack, probe: Probe
) -> str | None:
    """Which images the ball holds, if accuracy is higher than they allow."""
    survivors = report.accuracy[attack.name] * report.examples
    value_range = report.threat_models[attack.name]["value_range"]
    radius = share_of_range(attack, probe.shape, value_range)
    # A ball over the whole range holds every image, including those of other classes.
    if radius >= 1 - ROUNDING and probe.predicted_classes > 1 and survivors > 0:
        return (
            f"epsilon={attack.epsilon:g} covers the whole pixel range, and images that "
            "the model gives another class are in reach: 0% is possible"
        )
    # A ball over half the range holds uniform grey, for which one class is predicted.
    excess = survivors - probe.most_frequent * report.examples
    if radius >= 0.5 - ROUNDING and _is_significant(excess, 0, report.examples):
        return (
            f"epsilon={attack.epsilon:g} covers half the pixel range, and every image "
            "can be made the same grey: no more than the most frequent class, "
            f"{probe.most_frequent:.2%}, can be left"
        )
    return None


def is_strong(attack: Attack) -> bool:
    """Whether a white-box part of it has enough steps of a suitable size."""
    return any(_is_strong_part(part) for part in attack.parts())


def _is_strong_part(part: Attack) -> bool:
    # FGSM can beat FAB on an honest model.
    return _follows_the_gradient(part) and not isinstance(part, FABAttack)


def _follows_the_gradient(part: Attack) -> bool:
    """Whether it does, in enough steps of a suitable size."""
    return (
        part.white_box
        and getattr(part, "steps", part.steps_of_a_run) >= STRONG_STEPS
        and reaches_the_edge(part)
        and not jumps_across(part)
    )


def _weakness(attack: Attack) -> str | None:
    if not any(part.white_box for part in attack.parts()):
        return BLACK_BOX
    one_step = [getattr(part, "steps", None) == 1 for part in attack.parts()]
    return ONE_STEP if all(one_step) and attack.restarts == 1 else None


def _effort_between(weaker: Attack, stronger: Attack) -> str | None:
    """The only setting that differs between two attacks, if `stronger` has more."""
    if type(weaker) is not type(stronger):
        return None
    one, other = _settings(weaker), _settings(stronger)
    different = {name for name in one if one[name] != other[name]}
    if different & {"steps", "epsilon"}:
        different -= {"step_size"}  # derived from them
    if len(different) != 1:
        return None
    setting = different.pop()
    more = setting in EFFORTS and one[setting] < other[setting]
    return setting if more else None


def _settings(attack: Attack) -> dict[str, Any]:
    config = attack.get_config()
    return {k: v for k, v in config.items() if k not in ("name", "seed")}


def share_of_range(
    attack: Attack, shape: tuple[int, ...], value_range: tuple[float, float]
) -> float:
    """Epsilon, as a share of the distance between the darkest and lightest image.

    Args:
        attack: the attack.
        shape: of one image.
        value_range: lowest and highest pixel value.
    """
    low, high = value_range
    distance = high - low
    if attack.norm == "l2":
        distance *= math.sqrt(math.prod(shape))
    return attack.epsilon / distance


def _needed_to_beat(strong: list[Attack], weak: list[Attack]) -> tuple[float, str]:
    """The share by which `weak` must beat `strong` for a warning, and its meaning."""
    of_strong = {climbs_cross_entropy(part) for part in strong if part.white_box}
    of_weak = {climbs_cross_entropy(part) for part in weak if part.white_box}
    if len(of_strong) == 2 or of_strong == of_weak:
        return SHARE, _MISLED
    return SHARE_AGAINST_ONE_LOSS, _MISLED_OR_WRONG_LOSS


def _broken_by_one_only(stands: Any, other_stands: Any) -> tuple[int, int]:
    """How many examples only one attack breaks, and only the other; of `[N]`, bool."""
    return int((~stands & other_stands).sum()), int((stands & ~other_stands).sum())


def _is_significant(
    one: float, other: float, examples: int, share: float = SHARE
) -> bool:
    """Whether `one` exceeds `other` by more than chance and by more than `share`."""
    net = one - other
    return net > share * examples and net > Z_ONE_SIDED * math.sqrt(one + other)
