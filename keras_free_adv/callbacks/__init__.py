"""Keras callbacks."""

from keras_free_adv.callbacks.averaged_weights import AveragedWeights
from keras_free_adv.callbacks.backup_and_restore import BackupAndRestore
from keras_free_adv.callbacks.collapse_guard import CollapseGuard
from keras_free_adv.callbacks.robustness_evaluation import RobustnessEvaluation

__all__ = [
    "AveragedWeights",
    "BackupAndRestore",
    "CollapseGuard",
    "RobustnessEvaluation",
]
