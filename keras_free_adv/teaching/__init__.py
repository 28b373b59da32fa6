"""Checks of students' code: attacks and Free training, compared with the library's.

Each check runs a function on small examples and returns a `Verdict`: whether its result
is that of the library, and if not, what is wrong and how to mend it. The
exercises are in `docs/tutorials/6_teaching_kit.py`.
"""

from keras_free_adv.teaching.check_fgsm import check_fgsm
from keras_free_adv.teaching.check_pgd import check_pgd
from keras_free_adv.teaching.check_projection import check_projection
from keras_free_adv.teaching.check_refutation import check_refutation
from keras_free_adv.teaching.check_train import check_train
from keras_free_adv.teaching.check_train_step import check_train_step
from keras_free_adv.teaching.loss_and_gradient import loss_and_gradient_of
from keras_free_adv.teaching.verdict import NotWrittenYetError, Verdict

__all__ = [
    "NotWrittenYetError",
    "Verdict",
    "check_fgsm",
    "check_pgd",
    "check_projection",
    "check_refutation",
    "check_train",
    "check_train_step",
    "loss_and_gradient_of",
]
