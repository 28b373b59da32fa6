"""Doubts about the model: does it tell classes apart, has it a gradient, and so on."""

import keras

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.evaluation.probe import Probe, Probes
from keras_free_adv.evaluation.robustness_report import NATURAL, RobustnessReport
from keras_free_adv.logits import LOGITS, PROBABILITIES, SIGMOID

# What happens on a larger share of the images looked at, and on so many of them at
# least, is no accident of a few.
SHARE = 0.05
LEAST = 3
# One class for everything: if so many examples are of others, it is no accident.
LEAST_OF_OTHERS = 10
# Probabilities may leave [0, 1] by this much: half precision rounds.
SLACK = 0.01


def misread_outputs(attacks: list[Attack], probes: Probes) -> list[str]:
    """Probabilities attacked as logits, or logits as probabilities."""
    return [
        f"{_names(alike)}: the outputs are read as {why}"
        for alike, probe in _read_alike(attacks, probes)
        if (why := _why_misread(probe))
    ]


def _why_misread(probe: Probe) -> str | None:
    """As what the outputs are misread, and what to do, if they are."""
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
    if probe.source == PROBABILITIES and (low < -SLACK or high > 1 + SLACK):
        return (
            f"probabilities, but they lie between {low:.3g} and {high:.3g}, and the "
            "attack cannot climb their logarithm. Pass from_logits=True."
        )
    return None


def one_class_for_everything(
    report: RobustnessReport, attacks: list[Attack], probes: Probes
) -> list[str]:
    """A model that has learned nothing but which class to name."""
    probe = probes[attacks[0].name]  # natural accuracy is measured in its way
    right = int(report.robust[NATURAL].sum())
    if (
        probe.only_predicted is None
        or right != probe.labels_of_it
        or report.examples - right < LEAST_OF_OTHERS
        # Then this is why, and has its own doubt.
        or _why_misread(probe)
    ):
        return []
    return [
        f"The model predicts class {probe.only_predicted} for everything: for all "
        f"{probe.images} images that were looked at, and natural accuracy, "
        f"{right / report.examples:.2%}, is the share of that class among the labels. "
        "It does not tell classes apart, and accuracy under attack says nothing. "
        "Training is most likely stuck at chance: lower the learning rate, warm it up "
        "or epsilon (epsilon_warmup), or train with a smaller m (replays). If training "
        "accuracy was above chance, see whether these images are on the scale that the "
        "model was trained on."
    ]


def saturated_loss(attacks: list[Attack], probes: Probes) -> list[str]:
    """A loss that is constant in floating point, around images the model is sure of."""
    return [
        doubt
        for alike, probe in _read_alike(attacks, probes)
        # What is misread has its own doubt.
        if not _why_misread(probe) and _many(probe.saturated, probe.correct)
        for doubt in _of_saturation(alike, probe)
    ]


def _of_saturation(alike: list[Attack], probe: Probe) -> list[str]:
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


def no_gradient(attacks: list[Attack], probes: Probes) -> list[str]:
    """Input gradients that are zero or not finite, whatever the loss."""
    return [
        f"{_names(blind)}: on {_share(probe.without_gradient, probe.correct)} "
        "correctly classified images the input gradient is exactly zero or not finite, "
        "whatever the loss: something in the model (rounding, a cast to whole numbers, "
        "a saturated activation) has none. An attack that follows it says nothing. Use "
        "SquareAttack, or give that operation a differentiable stand-in (BPDA, Athalye "
        "et al. 2018)."
        for alike, probe in _read_alike(attacks, probes)
        if _many(probe.without_gradient, probe.correct)
        and (blind := [attack for attack in alike if _uses_gradients(attack)])
    ]


def random_outputs(attacks: list[Attack], probes: Probes) -> list[str]:
    """A forward pass that draws random numbers."""
    trusting = [a for a in attacks if not _averages_gradients(a)]
    if not trusting or not is_random(probes):
        return []
    probe = max(probes.values(), key=lambda probe: probe.random)
    return [
        f"{_names(trusting)}: the outputs for {_share(probe.random, probe.images)} "
        "images change from one forward pass to the next: the model draws random "
        "numbers in inference, and an attack that takes one draw for the truth is "
        "misled. Use AutoAttack(version='rand') or APGDAttack(gradient_samples=20), "
        "or turn the randomness off."
    ]


def outputs_that_depend_on_the_batch(probes: Probes) -> list[str]:
    """Predictions that change with the other images of a minibatch."""
    probe = max(probes.values(), key=lambda probe: probe.changed_by_batch)
    # A random model changes in another batch, too, and that proves nothing.
    if is_random(probes) or not _many(probe.changed_by_batch, probe.moved):
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
    return any(_many(probe.random, probe.images) for probe in probes.values())


def _many(count: int, of: int) -> bool:
    return count >= LEAST and count > SHARE * of


def _share(count: int, of: int) -> str:
    return f"{count} of {of} ({count / of:.0%})"


def _names(attacks: list[Attack]) -> str:
    return ", ".join(attack.name for attack in attacks)


def _read_alike(
    attacks: list[Attack], probes: Probes
) -> list[tuple[list[Attack], Probe]]:
    """The attacks that obtain the logits in one way, and what was seen in that way."""
    distinct = {id(probes[attack.name]): probes[attack.name] for attack in attacks}
    return [
        ([attack for attack in attacks if probes[attack.name] is probe], probe)
        for probe in distinct.values()
    ]


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
