"""Warnings about the settings of an evaluation: examples, pixel scale, step sizes."""

from collections.abc import Iterator

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.evaluation.probe import Probes
from keras_free_adv.evaluation.robustness_report import RobustnessReport

# How far an accuracy may be from the farther end of its 95% interval.
MAX_ERROR = 0.05
# Fewer labels than this may be all the same by chance.
MIN_OF_ONE_CLASS = 10
# Pixels that use a smaller share of `value_range` are on another scale.
MIN_USED_SHARE = 0.02
# As a share of the width of `value_range`.
GREY_LEVEL = 1 / 255
# Tolerance for the rounding of step sizes such as 2.5 * epsilon / steps.
ROUNDING = 1e-6


def few_examples(report: RobustnessReport) -> list[str]:
    """An accuracy whose 95% interval ends more than 5 percentage points away.

    The farther end counts: of 0 of 40 it is 9% away, twice half the interval's width.
    """
    error = {
        name: max(high - report.accuracy[name], report.accuracy[name] - low)
        for name, (low, high) in report.intervals.items()
    }
    name = max(error, key=lambda name: error[name])
    if error[name] <= MAX_ERROR:
        return []
    return [
        f"Only {report.examples} examples were evaluated: {name} is known to "
        f"+-{100 * error[name]:.0f} percentage points, and smaller differences cannot "
        "be claimed. 1,000 examples give about +-3, 10,000 +-1."
    ]


def examples_of_one_class(
    report: RobustnessReport, attacks: list[Attack], probes: Probes
) -> list[str]:
    """Labels that are all the same, as in the first minibatch of an ordered folder."""
    probe = probes[attacks[0].name]  # all probes have the same labels
    if probe.label_classes > 1 or report.examples < MIN_OF_ONE_CLASS:
        return []
    return [
        f"All {report.examples} examples are of one class, and the model has several: "
        "these are accuracies on that class, not of the model. The data are probably "
        "ordered by class, as an image folder is. Shuffle before taking a "
        "part: dataset.shuffle(examples, seed=0) before batch and take, "
        "shuffle=True with a seed in image_dataset_from_directory, or a permutation "
        "of the arrays."
    ]


def wrong_pixel_scale(
    report: RobustnessReport, attacks: list[Attack], probes: Probes
) -> Iterator[str]:
    """Images, or an epsilon, on another scale than `value_range`."""
    probe = probes[attacks[0].name]  # all probes have the same images
    low, high = report.threat_models[attacks[0].name]["value_range"]
    width = high - low
    used = (probe.highest_pixel - probe.lowest_pixel) / width
    if used < MIN_USED_SHARE:
        yield (
            f"Pixels lie between {probe.lowest_pixel:g} and {probe.highest_pixel:g}, "
            f"{used:.1%} of value_range=({low:g}, {high:g}): epsilon, on the scale of "
            "value_range, is larger or smaller than meant. Pass the range your images "
            "have, such as value_range=(0, 1), with epsilon on the same scale."
        )
        return
    for attack in attacks:
        if attack.norm == "linf":
            minimum, size = GREY_LEVEL / 10, "less than a tenth of a grey level"
        else:
            minimum, size = GREY_LEVEL, "less than one grey level of one pixel"
        if attack.epsilon < minimum * width:
            yield (
                f"{attack.name}: epsilon={attack.epsilon:g} is {size} of 8-bit images "
                f"in value_range=({low:g}, {high:g}), so that accuracy under attack is "
                "hardly below natural accuracy. Give epsilon on the pixel scale: 8 / "
                "255 for images in [0, 1], 8 for images in 0..255."
            )


def reaches_the_edge(attack: Attack) -> bool:
    """Whether the steps of a part of an attack can lead to the edge of its ball."""
    step_size = getattr(attack, "step_size", None)
    if step_size is None:
        return True
    return attack.steps * step_size >= attack.epsilon * (1 - ROUNDING)


def jumps_across(attack: Attack) -> bool:
    """Whether a step is longer than the ball is wide."""
    step_size = getattr(attack, "step_size", None)
    return step_size is not None and step_size > 2 * attack.epsilon * (1 + ROUNDING)


def unsuitable_step_sizes(attacks: list[Attack]) -> Iterator[str]:
    """Step sizes too small to reach the edge of the ball, or longer than its width."""
    for attack, part in [(one, part) for one in attacks for part in one.parts()]:
        name = attack.name if part is attack else f"{attack.name}, {part.name}"
        if not reaches_the_edge(part):
            yield (
                f"{name}: {part.steps} steps of {part.step_size:g} lead "
                f"{part.steps * part.step_size:g} far and cannot reach the edge of a "
                f"ball of epsilon={part.epsilon:g}, so that accuracy is overestimated. "
                "Leave out step_size, which is then 2.5 * epsilon / steps."
            )
        if jumps_across(part):
            yield (
                f"{name}: step_size={part.step_size:g} is more than the width of the "
                f"ball, 2 * epsilon={2 * part.epsilon:g}: each step jumps from edge to "
                "edge, and more steps are no better than one. Leave out step_size, "
                "which is then 2.5 * epsilon / steps."
            )
