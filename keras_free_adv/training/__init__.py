"""Models that train another model: adversarially, or naturally for comparison."""

from keras_free_adv.training.adversarial_model import AdversarialModel
from keras_free_adv.training.free_adversarial_model import FreeAdversarialModel
from keras_free_adv.training.natural_model import NaturalModel
from keras_free_adv.training.pgd_adversarial_model import PGDAdversarialModel
from keras_free_adv.training.trades_model import TRADESModel

__all__ = [
    "AdversarialModel",
    "FreeAdversarialModel",
    "NaturalModel",
    "PGDAdversarialModel",
    "TRADESModel",
]
