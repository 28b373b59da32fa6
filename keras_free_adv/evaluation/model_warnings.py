"""Warnings about the model: its outputs, its gradients, its predictions."""

import keras

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.backends.final_operation import SIGMOID
from keras_free_adv.evaluation.probe import Probe, Probes
from keras_free_adv.evaluation.robustness_report import NATURAL, RobustnessReport
from keras_free_adv.logits import LOGITS, PROBABILITIES

# What happens on more than this share of the probed images, and on this many of them,
# is not due to a few unusual images.
SHARE = 0.05
MIN_IMAGES = 3
# A constant prediction is a finding if this many examples have another label.
MIN_OTHER_LABELS = 10
# Half precision may round probabilities this far out of [0, 1].
TOLERANCE = 0.01


def misread_outputs(attacks: list[Attack], probes: Probes) -> list[str]:
    """Probabilities attacked as logits, or logits as probabilities."""
    return [
        f"{_names(group)}: the outputs are read as {why}"
        for group, probe in _by_probe(attacks, probes)
        if (why := _why_misread(probe))
    ]


def _why_misread(probe: Probe) -> str | None:
    """What the outputs are misread as, and the remedy; None if they are not."""
    low, high = probe.lowest_output, probe.highest_output
    remedy = "Pass from_logits='auto', or a model that returns logits."
    if probe.ignored == SIGMOID and not probe.largest_is_class:
        return (
            "logits, but they are those of a final sigmoid: probabilities, none of "
            "which is below zero, so that every image counts as class 1, and natural "
            f"accuracy is wrong, too. {remedy}"
        )
    if probe.source == LOGITS and (probe.ignored or probe.shares):
        found = (
            f"they are those of a final {probe.ignored.lower()}"
            if probe.ignored
            else f"they lie between {low:.3g} and {high:.3g} with the sum 1"
        )
        return (
            f"logits, but {found}: they are probabilities, whose gradient vanishes, so "
            f"that accuracy under attack is overestimated. {remedy}"
        )
    if probe.source == PROBABILITIES and (low < -TOLERANCE or high > 1 + TOLERANCE):
        return (
            f"probabilities, but they lie between {low:.3g} and {high:.3g}, and the "
            "attack cannot climb their logarithm. Pass from_logits=True."
        )
    return None


def constant_prediction(
    report: RobustnessReport, attacks: list[Attack], probes: Probes
) -> list[str]:
    """One class that is predicted for every image."""
    probe = probes[attacks[0].name]  # natural accuracy is of the same logits
    right = int(report.robust[NATURAL].sum())
    if (
        probe.only_predicted is None
        or right != probe.labels_of_it
        or report.examples - right < MIN_OTHER_LABELS
        # `misread_outputs` gives this cause.
        or _why_misread(probe)
    ):
        return []
    return [
        f"The model predicts class {probe.only_predicted} for everything: for all "
        f"{probe.images} images that were probed, and natural accuracy, "
        f"{right / report.examples:.2%}, is the share of that class among the labels. "
        "It does not tell classes apart, and accuracy under attack means nothing. "
        "Training is most likely stuck at chance: lower the learning rate, warm it up "
        "or epsilon (epsilon_warmup_steps), or train with a smaller m (replays). If "
        "training accuracy was above chance, see whether these images are on the scale "
        "that the model was trained on."
    ]


def saturated_loss(attacks: list[Attack], probes: Probes) -> list[str]:
    """A loss that is constant in floating point, around images the model is sure of."""
    return [
        warning
        for group, probe in _by_probe(attacks, probes)
        # `misread_outputs` gives another cause.
        if not _why_misread(probe) and _is_frequent(probe.saturated, probe.correct)
        for warning in _saturation(group, probe)
    ]


def _saturation(group: list[Attack], probe: Probe) -> list[str]:
    found = _share(probe.saturated, probe.correct) + " correctly classified images"
    if probe.source == PROBABILITIES:
        affected = [a for a in group if _uses_gradients(a)]
        cause = (
            f"on {found} the probability of the true class saturates: it is exactly "
            "1, or the gradient of the cross-entropy is lost, in floating point"
        )
        remedy = (
            "Attack the model's logits: take away its final operation, or make a "
            "softmax the last one, and pass from_logits=True or 'auto'."
        )
    else:
        affected = [a for a in group if _climbs_cross_entropy_only(a)]
        cause = (
            f"on {found} the gradient of the cross-entropy is lost in floating point, "
            "and that of the margin of the logits is not: logits this large saturate it"
        )
        remedy = (
            "Attack the margin, with PGDAttack(loss='cw_margin') or "
            "APGDAttack(loss='dlr'), or divide the logits by a constant."
        )
    if not affected:
        return []
    return [
        f"{_names(affected)}: {cause}. An attack that climbs it stands still, and "
        f"accuracy is overestimated. {remedy}"
    ]


def no_gradient(attacks: list[Attack], probes: Probes) -> list[str]:
    """Input gradients that are zero or not finite, whatever the loss."""
    return [
        f"{_names(affected)}: on {_share(probe.without_gradient, probe.correct)} "
        "correctly classified images the input gradient is exactly zero or not finite, "
        "whatever the loss: something in the model (rounding, a cast to whole numbers, "
        "a saturated activation) has none. An attack that follows it says nothing. Use "
        "SquareAttack, or give that operation a differentiable stand-in (BPDA, Athalye "
        "et al. 2018)."
        for group, probe in _by_probe(attacks, probes)
        if _is_frequent(probe.without_gradient, probe.correct)
        and (affected := [attack for attack in group if _uses_gradients(attack)])
    ]


def random_outputs(attacks: list[Attack], probes: Probes) -> list[str]:
    """A forward pass that draws random numbers."""
    affected = [a for a in attacks if not _averages_gradients(a)]
    if not affected or not is_random(probes):
        return []
    probe = max(probes.values(), key=lambda probe: probe.random)
    return [
        f"{_names(affected)}: the outputs for {_share(probe.random, probe.images)} "
        "images change from one forward pass to the next: the model draws random "
        "numbers in inference, and an attack that sees a single draw is misled. "
        "Use AutoAttack(version='rand') or APGDAttack(gradient_samples=20), "
        "or turn the randomness off."
    ]


def batch_dependent_outputs(probes: Probes) -> list[str]:
    """Predictions that change with the other images of a minibatch."""
    probe = max(probes.values(), key=lambda probe: probe.changed_by_batch)
    # The outputs of a random model change anyway.
    if is_random(probes) or not _is_frequent(probe.changed_by_batch, probe.moved):
        return []
    return [
        f"The outputs for {_share(probe.changed_by_batch, probe.moved)} images change "
        "with the rest of their minibatch (its other images, their order or number), "
        "so no accuracy here is one of single images. Look for statistics of the batch "
        "in inference (a layer called with training=True, a mean over axis 0), or for "
        "random numbers with a fixed seed."
    ]


def is_random(probes: Probes) -> bool:
    """Whether the model's outputs change from pass to pass."""
    return any(_is_frequent(probe.random, probe.images) for probe in probes.values())


def _is_frequent(count: int, of: int) -> bool:
    return count >= MIN_IMAGES and count > SHARE * of


def _share(count: int, of: int) -> str:
    return f"{count} of {of} ({count / of:.0%})"


def _names(attacks: list[Attack]) -> str:
    return ", ".join(attack.name for attack in attacks)


def _by_probe(
    attacks: list[Attack], probes: Probes
) -> list[tuple[list[Attack], Probe]]:
    """The attacks that use the same logits, with the probe of these."""
    distinct = {id(probes[attack.name]): probes[attack.name] for attack in attacks}
    return [
        ([attack for attack in attacks if probes[attack.name] is probe], probe)
        for probe in distinct.values()
    ]


def _uses_gradients(attack: Attack) -> bool:
    return any(part.white_box for part in attack.parts())


def _climbs_cross_entropy_only(attack: Attack) -> bool:
    """Whether each part with a gradient takes the cross-entropy's."""
    white_box = [part for part in attack.parts() if part.white_box]
    return bool(white_box) and all(climbs_cross_entropy(part) for part in white_box)


def climbs_cross_entropy(part: Attack) -> bool:
    """Whether a part of an attack climbs the cross-entropy, or a loss like it."""
    loss = getattr(part, "loss", None)
    return loss == "cross_entropy" or isinstance(loss, keras.losses.Loss)


def _averages_gradients(attack: Attack) -> bool:
    return all(getattr(part, "gradient_samples", 1) > 1 for part in attack.parts())
