"""Free adversarial training for Keras: robustness in one changed line.

`model = FreeAdversarialModel(model, epsilon=8 / 255)`, and `fit` as before. Besides
what is listed in `__all__`, the submodules `datasets`, `zoo`, `recipes`, `plotting` and
`teaching` can be imported.
"""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "keras_free_adv runs on Keras' TensorFlow backend. Received: "
        f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow before anything "
        "imports Keras, or the backend in Keras' configuration file."
    )

from keras_free_adv.attacks.apgd_attack import APGDAttack
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
from keras_free_adv.training.free_adversarial_model import FreeAdversarialModel
from keras_free_adv.training.pgd_adversarial_model import PGDAdversarialModel
from keras_free_adv.training.trades_model import TRADESModel

__version__ = "0.1.0"

__all__ = [
    "APGDAttack",
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
