"""The warnings of a report: reasons not to trust its numbers."""

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.evaluation import attack_warnings, model_warnings, setting_warnings
from keras_free_adv.evaluation.probe import Probes
from keras_free_adv.evaluation.robustness_report import RobustnessReport


def warnings_of(
    report: RobustnessReport, attacks: list[Attack], probes: Probes
) -> list[str]:
    """The warnings about a report.

    Only those that the run proves: false alarms teach people to ignore warnings.

    Args:
        report: the results.
        attacks: the attacks, as in the report.
        probes: by attack, the probe of the model with the logits that it uses.

    Returns:
        One string a warning: the attacks' names, the evidence in numbers, what it
        means and what to do.
    """
    constant = model_warnings.constant_prediction(report, attacks, probes)
    # If the model predicts one class for everything, zero gradients and failing attacks
    # are no evidence of gradient masking.
    about_gradients: list[str] = []
    about_attacks: list[str] = []
    if not constant:
        about_gradients = [
            *model_warnings.saturated_loss(attacks, probes),
            *model_warnings.no_gradient(attacks, probes),
        ]
        about_attacks = [
            *attack_warnings.beaten_by_a_weaker_attack(report, attacks, probes),
            *attack_warnings.beaten_inside_an_ensemble(report, attacks, probes),
            *attack_warnings.less_broken_with_more_effort(report, attacks, probes),
            *attack_warnings.too_many_survivors(report, attacks, probes),
        ]
    return [
        *setting_warnings.few_examples(report),
        *setting_warnings.examples_of_one_class(report, attacks, probes),
        *setting_warnings.wrong_pixel_scale(report, attacks, probes),
        *setting_warnings.unsuitable_step_sizes(attacks),
        *model_warnings.misread_outputs(attacks, probes),
        *constant,
        *about_gradients,
        *model_warnings.random_outputs(attacks, probes),
        *model_warnings.batch_dependent_outputs(probes),
        *about_attacks,
        *attack_warnings.summed_over_labels(report, attacks),
    ]
