# What `keras_free_adv` offers, and where it is: read by type checkers, and by
# `__init__.py` to import it when it is used.

from . import (
    attacks,
    callbacks,
    comparison,
    data,
    datasets,
    evaluation,
    optimizers,
    plotting,
    recipes,
    serving,
    teaching,
    training,
    zoo,
)
from .attacks.apgd_attack import APGDAttack
from .attacks.attack import Attack
from .attacks.auto_attack import AutoAttack
from .attacks.fab_attack import FABAttack
from .attacks.pgd_attack import PGDAttack
from .attacks.square_attack import SquareAttack
from .callbacks.averaged_weights import AveragedWeights
from .callbacks.backup_and_restore import BackupAndRestore
from .callbacks.collapse_guard import CollapseGuard
from .callbacks.robustness_evaluation import RobustnessEvaluation
from .comparison.compare_methods import compare_methods
from .comparison.method_comparison import MethodComparison
from .data.replay import replay
from .evaluation.evaluate_robustness import evaluate_robustness
from .evaluation.paper_attacks import paper_attacks
from .evaluation.published_figures import published_figures
from .evaluation.robustness_report import RobustnessReport
from .serving.agreement import ExportDisagreesError
from .serving.export_for_litert import export_for_litert
from .serving.export_for_serving import export_for_serving
from .training.adversarial_model import AdversarialModel
from .training.free_adversarial_model import FreeAdversarialModel
from .training.natural_model import NaturalModel
from .training.pgd_adversarial_model import PGDAdversarialModel
from .training.trades_model import TRADESModel

__version__: str

__all__ = [
    "APGDAttack",
    "AdversarialModel",
    "Attack",
    "AutoAttack",
    "AveragedWeights",
    "BackupAndRestore",
    "CollapseGuard",
    "ExportDisagreesError",
    "FABAttack",
    "FreeAdversarialModel",
    "MethodComparison",
    "NaturalModel",
    "PGDAdversarialModel",
    "PGDAttack",
    "RobustnessEvaluation",
    "RobustnessReport",
    "SquareAttack",
    "TRADESModel",
    "attacks",
    "callbacks",
    "compare_methods",
    "comparison",
    "data",
    "datasets",
    "evaluate_robustness",
    "evaluation",
    "export_for_litert",
    "export_for_serving",
    "optimizers",
    "paper_attacks",
    "plotting",
    "published_figures",
    "recipes",
    "replay",
    "serving",
    "teaching",
    "training",
    "zoo",
]
