"""Doubts about the model: is there a gradient, and does it answer twice alike?"""

import keras

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.evaluation.probe import Probe
from keras_free_adv.evaluation.robustness_report import RobustnessReport
from keras_free_adv.logits import LOGITS, PROBABILITIES

# What happens on a larger share of the images looked at, and on so many of them at
# least, is no accident of a few.
SHARE = 0.05
LEAST = 3
# Probabilities may leave [0, 1] by this much: half precision rounds.
SLACK = 0.01


def misread_outputs(
    report: RobustnessReport, attacks: list[Attack], probe: Probe
) -> list[str]:
    """Probabilities attacked as logits, or logits as probabilities."""
    names = _names([a for a in attacks if _reads_like(probe, report, a)])
    low, high = probe.lowest_output, probe.highest_output
    if probe.source == LOGITS and probe.shares:
        return [
            f"{names}: the outputs are read as logits, but they lie between {low:.3g} "
            f"and {high:.3g} with the sum 1: they are probabilities, whose gradient "
            "vanishes, so that accuracy under attack is overestimated. Pass "
            "from_logits='auto', or a model that returns logits."
        ]
    if probe.source == PROBABILITIES and (low < -SLACK or high > 1 + SLACK):
        return [
            f"{names}: the outputs are read as probabilities, but they lie between "
            f"{low:.3g} and {high:.3g}, and the attack cannot climb their logarithm. "
            "Pass from_logits=True."
        ]
    return []


def saturated_loss(
    report: RobustnessReport, attacks: list[Attack], probe: Probe
) -> list[str]:
    """A loss that is constant in floating point, around images the model is sure of."""
    misread = probe.source == LOGITS and probe.shares  # which has its own doubt
    if misread or not _many(probe.saturated, probe.correct):
        return []
    alike = [attack for attack in attacks if _reads_like(probe, report, attack)]
    found = _share(probe.saturated, probe.correct) + " correctly classified images"
    if probe.source == PROBABILITIES:
        blind = [a for a in alike if _uses_gradients(a)]
        what = (
            f"on {found} the probability of the true class saturates: it is exactly "
            "1, or the gradient of the cross-entropy is lost, in floating point"
        )
        remedy = (
            "Attack the model's logits: take away its final operation, or make a "
            "softmax the last one, and pass from_logits=True or 'auto'."
        )
    else:
        blind = [a for a in alike if _climbs_cross_entropy_only(a)]
        what = (
            f"on {found} the gradient of the cross-entropy is lost in floating point, "
            "and that of the margin of the logits is not: logits this large saturate it"
        )
        remedy = (
            "Attack the margin, with PGDAttack(loss='cw_margin') or "
            "APGDAttack(loss='dlr'), or divide the logits by a constant."
        )
    if not blind:
        return []
    return [
        f"{_names(blind)}: {what}. An attack that climbs it stands still, and accuracy "
        f"is overestimated. {remedy}"
    ]


def no_gradient(attacks: list[Attack], probe: Probe) -> list[str]:
    """Input gradients that are zero or not finite, whatever the loss."""
    blind = [attack for attack in attacks if _uses_gradients(attack)]
    if not blind or not _many(probe.without_gradient, probe.correct):
        return []
    return [
        f"{_names(blind)}: on {_share(probe.without_gradient, probe.correct)} "
        "correctly classified images the input gradient is exactly zero or not finite, "
        "whatever the loss: something in the model (rounding, a cast to whole numbers, "
        "a saturated activation) has none. An attack that follows it says nothing. Use "
        "SquareAttack, or give that operation a differentiable stand-in (BPDA, Athalye "
        "et al. 2018)."
    ]


def random_outputs(attacks: list[Attack], probe: Probe) -> list[str]:
    """A forward pass that draws random numbers."""
    trusting = [a for a in attacks if not _averages_gradients(a)]
    if not trusting or not is_random(probe):
        return []
    return [
        f"{_names(trusting)}: the outputs for {_share(probe.random, probe.images)} "
        "images change from one forward pass to the next: the model draws random "
        "numbers in inference, and an attack that takes one draw for the truth is "
        "misled. Use AutoAttack(version='rand') or APGDAttack(gradient_samples=20), "
        "or turn the randomness off."
    ]


def outputs_that_depend_on_the_batch(probe: Probe) -> list[str]:
    """Predictions that change with the other images of a minibatch."""
    # A random model changes in another batch, too, and that proves nothing.
    if is_random(probe) or not _many(probe.changed_by_batch, probe.moved):
        return []
    return [
        f"The outputs for {_share(probe.changed_by_batch, probe.moved)} images change "
        "with the rest of their minibatch (its other images, their order or number), "
        "so no accuracy here is one of single images. Look for statistics of the batch "
        "in inference (a layer called with training=True, a mean over axis 0), or for "
        "random numbers with a fixed seed."
    ]


def is_random(probe: Probe) -> bool:
    """Whether the model's outputs change from pass to pass."""
    return _many(probe.random, probe.images)


def _many(count: int, of: int) -> bool:
    return count >= LEAST and count > SHARE * of


def _share(count: int, of: int) -> str:
    return f"{count} of {of} ({count / of:.0%})"


def _names(attacks: list[Attack]) -> str:
    return ", ".join(attack.name for attack in attacks)


def _reads_like(probe: Probe, report: RobustnessReport, attack: Attack) -> bool:
    """Whether an attack obtains the logits in the way that was looked at."""
    return report.threat_models[attack.name]["logits"] == probe.source


def _uses_gradients(attack: Attack) -> bool:
    return any(part.white_box for part in attack.parts())


def _climbs_cross_entropy_only(attack: Attack) -> bool:
    """Whether each part with a gradient takes the cross-entropy's."""
    seeing = [part for part in attack.parts() if part.white_box]
    return bool(seeing) and all(climbs_cross_entropy(part) for part in seeing)


def climbs_cross_entropy(part: Attack) -> bool:
    """Whether a part of an attack climbs the cross-entropy, or a loss like it."""
    loss = getattr(part, "loss", None)
    return loss == "cross_entropy" or isinstance(loss, keras.losses.Loss)


def _averages_gradients(attack: Attack) -> bool:
    return all(getattr(part, "gradient_samples", 1) > 1 for part in attack.parts())
