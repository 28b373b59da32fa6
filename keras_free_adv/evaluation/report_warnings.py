"""Doubts: what a reader should know before believing the numbers."""

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.evaluation import attack_warnings, model_warnings, setting_warnings
from keras_free_adv.evaluation.probe import Probes
from keras_free_adv.evaluation.robustness_report import RobustnessReport


def warnings_of(
    report: RobustnessReport, attacks: list[Attack], probes: Probes
) -> list[str]:
    """The doubts about a report.

    Only what can be proven from the run: a false alarm teaches people to ignore
    warnings.

    Args:
        report: what the evaluation found.
        attacks: the attacks, as in the report.
        probes: what was seen of the model, in the way of each attack.

    Returns:
        One string a doubt, with its numbers, the attacks' names, what it means and
        what to do.
    """
    blind = model_warnings.one_class_for_everything(report, attacks, probes)
    # Of a model that names one class whatever it sees, a gradient that is zero and
    # attacks that fail are no signs of a mask.
    of_gradients: list[str] = []
    of_attacks: list[str] = []
    if not blind:
        of_gradients = [
            *model_warnings.saturated_loss(attacks, probes),
            *model_warnings.no_gradient(attacks, probes),
        ]
        of_attacks = [
            *attack_warnings.beaten_by_a_weaker_attack(report, attacks, probes),
            *attack_warnings.beaten_inside_an_ensemble(report, attacks, probes),
            *attack_warnings.more_effort_finds_less(report, attacks, probes),
            *attack_warnings.something_left_standing(report, attacks, probes),
        ]
    return [
        *setting_warnings.few_examples(report),
        *setting_warnings.examples_of_one_class(report, attacks, probes),
        *setting_warnings.wrong_pixel_scale(report, attacks, probes),
        *setting_warnings.steps_that_miss_the_ball(attacks),
        *model_warnings.misread_outputs(attacks, probes),
        *blind,
        *of_gradients,
        *model_warnings.random_outputs(attacks, probes),
        *model_warnings.outputs_that_depend_on_the_batch(probes),
        *of_attacks,
        *attack_warnings.spread_over_labels(report, attacks),
    ]
