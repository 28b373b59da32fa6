"""Free adversarial training for Keras: robustness in one changed line.

`model = FreeAdversarialModel(model, epsilon=8 / 255)`, and `fit` as before. What is
listed in `__all__` is also found in the subpackage of its kind: `attacks`, `callbacks`,
`data`, `evaluation`, `serving` or `training`. Besides these, `datasets`, `zoo`,
`recipes`, `plotting` and `teaching` can be imported.
"""

from keras_free_adv.attacks.apgd_attack import APGDAttack
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.auto_attack import AutoAttack
from keras_free_adv.attacks.fab_attack import FABAttack
from keras_free_adv.attacks.pgd_attack import PGDAttack
from keras_free_adv.attacks.square_attack import SquareAttack
from keras_free_adv.callbacks.averaged_weights import AveragedWeights
from keras_free_adv.callbacks.backup_and_restore import BackupAndRestore
from keras_free_adv.callbacks.collapse_guard import CollapseGuard
from keras_free_adv.callbacks.robustness_evaluation import RobustnessEvaluation
from keras_free_adv.data.replay import replay
from keras_free_adv.evaluation.evaluate_robustness import evaluate_robustness
from keras_free_adv.evaluation.paper_attacks import paper_attacks
from keras_free_adv.evaluation.published_figures import published_figures
from keras_free_adv.evaluation.robustness_report import RobustnessReport
from keras_free_adv.serving.agreement import ExportDisagreesError
from keras_free_adv.serving.export_for_litert import export_for_litert
from keras_free_adv.serving.export_for_serving import export_for_serving
from keras_free_adv.training.adversarial_model import AdversarialModel
from keras_free_adv.training.free_adversarial_model import FreeAdversarialModel
from keras_free_adv.training.pgd_adversarial_model import PGDAdversarialModel
from keras_free_adv.training.trades_model import TRADESModel
from keras_free_adv.version import __version__ as __version__

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
    "PGDAdversarialModel",
    "PGDAttack",
    "RobustnessEvaluation",
    "RobustnessReport",
    "SquareAttack",
    "TRADESModel",
    "evaluate_robustness",
    "export_for_litert",
    "export_for_serving",
    "paper_attacks",
    "published_figures",
    "replay",
]
