"""Doubts about the attacks: what one finds and a stronger one does not."""

import itertools
import math
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

# A difference counts from this share of the examples on, and if it is more than
# chance by a one-sided test of 5%, which fewer than 3 examples are not.
SHARE = 0.01
Z_ONE_SIDED = 1.645
# One loss alone leads past something on honest models, too: on some with 64 pixels
# Square finds 6.5% of the examples more than any attack on the cross-entropy, and 3%
# more than one on the margin, but not more than both together. So a larger share is
# asked for against attacks that all climb one loss before a masked gradient is
# diagnosed. A smaller one is said as what it is: their accuracy is too high.
SHARE_AGAINST_ONE_LOSS = 0.1
# Fewer steps than this make no strong attack.
STRONG_STEPS = 10
# The settings of which more cannot find less.
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
) -> list[str]:
    """A black-box or one-step attack that breaks what white-box ones leave.

    Attacks that see more should find more, at least together. From significance on
    their accuracy is too high, which is said; if much is missed, the gradient misleads.
    """
    if is_random(probes):  # then luck decides, and a comparison proves nothing
        return []
    doubts = []
    for weak in attacks:
        kind = _weakness(weak)
        rivals = [other for other in attacks if kind and _should_beat(other, weak)]
        # FAB looks for the nearest boundary, not for the worst point of the ball: what
        # it misses tells nothing of the gradient.
        strong = [rival for rival in rivals if is_strong(rival)]
        doubt = kind and _diagnosis(report, weak, kind, strong)
        doubt = doubt or _plain_fact(report, weak, rivals)
        doubts += [doubt] if doubt else []
    return doubts


def _should_beat(other: Attack, weak: Attack) -> bool:
    """Whether an attack of many steps along a gradient looks in no smaller a ball."""
    return (
        other is not weak
        and any(_follows_the_gradient(part) for part in other.parts())
        and weak.norm == other.norm
        and weak.epsilon <= other.epsilon
    )


def _diagnosis(
    report: RobustnessReport, weak: Attack, kind: str, strong: list[Attack]
) -> str | None:
    """What it means that strong attacks miss so much, if they do."""
    if not strong:
        return None
    left = np.logical_and.reduce([report.robust[a.name] for a in strong])
    more, fewer = _broken_by_one_only(report.robust[weak.name], left)
    parts = [part for attack in strong for part in attack.parts()]
    share, meaning = _needed_to_beat(parts, weak.parts())
    if not _clear(more, fewer, report.examples, share):
        return None
    return (
        f"{weak.name}, {kind}, breaks {more - fewer} examples more than "
        f"{_together(strong)}, which should be stronger: it leaves "
        f"{report.accuracy[weak.name]:.2%}, and they {left.mean():.2%}. "
        f"Accuracy under them is overestimated: {meaning}"
    )


def _plain_fact(
    report: RobustnessReport, weak: Attack, rivals: list[Attack]
) -> str | None:
    """By how much the accuracy under attacks that see more is too high, if it is."""
    if not rivals:
        return None
    left = np.logical_and.reduce([report.robust[a.name] for a in rivals])
    more, fewer = _broken_by_one_only(report.robust[weak.name], left)
    if not _clear(more, fewer, report.examples):
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
) -> list[str]:
    """A black-box part that still finds much after strong white-box ones.

    The accuracy of the whole is the worst case already, and nothing is to be said of
    less.
    """
    if is_random(probes):
        return []
    doubts = []
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
                and _clear(broken, 0, report.examples, share)
            ):
                doubts.append(
                    f"{attack.name}: {part.name}, {BLACK_BOX}, breaks {broken} "
                    f"examples more ({before:.2%} to {after:.2%}) after the attacks "
                    f"with gradients: {meaning}"
                )
            before, earlier = after, [*earlier, part]
    return doubts


def more_effort_finds_less(
    report: RobustnessReport, attacks: list[Attack], probes: Probes
) -> list[str]:
    """More steps, restarts or queries, or a larger epsilon, that raise accuracy."""
    if is_random(probes):
        return []
    doubts = []
    for weaker, stronger in itertools.permutations(attacks, 2):
        setting = _effort_between(weaker, stronger)
        # One step against many is the business of `beaten_by_a_weaker_attack`.
        if not setting or (_weakness(weaker) == ONE_STEP and is_strong(stronger)):
            continue
        more, fewer = _broken_by_one_only(
            report.robust[weaker.name], report.robust[stronger.name]
        )
        if _clear(more, fewer, report.examples):
            doubts.append(
                f"{stronger.name} ({setting}={getattr(stronger, setting):g}) breaks "
                f"{more - fewer} examples fewer than {weaker.name} ({setting}="
                f"{getattr(weaker, setting):g}), which leaves "
                f"{report.accuracy[weaker.name]:.2%} and not "
                f"{report.accuracy[stronger.name]:.2%}: with more {setting} it misses "
                "what is there, so its accuracy is overestimated. Use APGDAttack, or "
                "more and smaller steps; if that does not help, the gradient misleads: "
                "use SquareAttack."
            )
    return doubts


def something_left_standing(
    report: RobustnessReport, attacks: list[Attack], probes: Probes
) -> list[str]:
    """Examples that stand although the ball holds something that fools the model."""
    return [
        f"{attack.name}: accuracy is {report.accuracy[attack.name]:.2%} although "
        f"{why}. The attack fails here, and may fail at smaller epsilon: use more "
        "steps, APGDAttack or SquareAttack. If accuracy stays, look for saturated "
        "outputs or operations without a gradient."
        for attack in attacks
        if (why := _why_too_accurate(report, attack, probes[attack.name]))
    ]


def spread_over_labels(report: RobustnessReport, attacks: list[Attack]) -> list[str]:
    """Only losses that add up over labels, of a model that predicts several at once."""
    aimed = any(
        not climbs_cross_entropy(part) for attack in attacks for part in attack.parts()
    )
    if aimed or not report.label_accuracy:
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
    """What a ball so large holds, if accuracy is higher than that allows."""
    left = report.accuracy[attack.name] * report.examples
    value_range = report.threat_models[attack.name]["value_range"]
    radius = share_of_range(attack, probe.shape, value_range)
    # A ball over the whole range holds every image, of other classes too.
    if radius >= 1 - ROUNDING and probe.predicted_classes > 1 and left > 0:
        return (
            f"epsilon={attack.epsilon:g} covers the whole pixel range, and images that "
            "the model gives another class are in reach: 0% is possible"
        )
    # Over half the range it holds uniform grey, which the model gives one class.
    grey = probe.most_frequent * report.examples
    if radius >= 0.5 - ROUNDING and _clear(left - grey, 0, report.examples):
        return (
            f"epsilon={attack.epsilon:g} covers half the pixel range, and every image "
            "can be made the same grey: no more than the most frequent class, "
            f"{probe.most_frequent:.2%}, can be left"
        )
    return None


def is_strong(attack: Attack) -> bool:
    """Whether a white-box part of it has steps enough, of a sensible size."""
    return any(_is_strong_part(part) for part in attack.parts())


def _is_strong_part(part: Attack) -> bool:
    # FGSM can beat FAB on an honest model.
    return _follows_the_gradient(part) and not isinstance(part, FABAttack)


def _follows_the_gradient(part: Attack) -> bool:
    """Whether it does so for steps enough, of a sensible size."""
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
    """The one setting that tells two attacks apart, if `stronger` has more of it."""
    if type(weaker) is not type(stronger):
        return None
    one, other = _settings(weaker), _settings(stronger)
    apart = {name for name in one if one[name] != other[name]}
    if apart & {"steps", "epsilon"}:
        apart -= {"step_size"}  # follows from them
    if len(apart) != 1:
        return None
    setting = apart.pop()
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
    far = high - low
    if attack.norm == "l2":
        far *= math.sqrt(math.prod(shape))
    return attack.epsilon / far


def _needed_to_beat(strong: list[Attack], weak: list[Attack]) -> tuple[float, str]:
    """By what share of the examples the weak must beat the strong; what that means."""
    of_strong = {climbs_cross_entropy(part) for part in strong if part.white_box}
    of_weak = {climbs_cross_entropy(part) for part in weak if part.white_box}
    if len(of_strong) == 2 or of_strong == of_weak:
        return SHARE, _MISLED
    return SHARE_AGAINST_ONE_LOSS, _MISLED_OR_WRONG_LOSS


def _broken_by_one_only(stands: Any, other_stands: Any) -> tuple[int, int]:
    """How many examples only the one attack breaks, and only the other, from `[N]`."""
    return int((~stands & other_stands).sum()), int((stands & ~other_stands).sum())


def _clear(one: float, other: float, examples: int, share: float = SHARE) -> bool:
    """Whether `one` exceeds `other` by more than chance and trifles."""
    net = one - other
    return net > share * examples and net > Z_ONE_SIDED * math.sqrt(one + other)
