"""Measuring robustness, and reporting it."""

from keras_free_adv.evaluation.evaluate_robustness import evaluate_robustness
from keras_free_adv.evaluation.paper_attacks import paper_attacks
from keras_free_adv.evaluation.published_figures import published_figures
from keras_free_adv.evaluation.robustness_report import RobustnessReport

__all__ = [
    "RobustnessReport",
    "evaluate_robustness",
    "paper_attacks",
    "published_figures",
]
