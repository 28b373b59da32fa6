"""Checks of what students write: attacks and Free training, beside the library's own.

Each check runs a function on small examples and returns a `Verdict`: whether it does
what the library does, and if not, what is wrong, in words that help to mend it. The
exercises are in `docs/tutorials/6_teaching_kit.py`.
"""

from keras_free_adv.teaching.check_fgsm import check_fgsm
from keras_free_adv.teaching.check_pgd import check_pgd
from keras_free_adv.teaching.check_projection import check_projection
from keras_free_adv.teaching.check_refutation import check_refutation
from keras_free_adv.teaching.check_train import check_train
from keras_free_adv.teaching.check_train_step import check_train_step
from keras_free_adv.teaching.loss_and_gradient import loss_and_gradient_of
from keras_free_adv.teaching.not_written_yet import NotWrittenYetError
from keras_free_adv.teaching.verdict import Verdict

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
