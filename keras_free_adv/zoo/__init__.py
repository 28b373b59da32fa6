"""Image classifiers for robustness work: pixels in, logits out.

Every model takes pixels in `value_range`, normalizes inside (after the
perturbation), and returns logits. `pretrained` returns models that are trained already.
"""

from keras_free_adv.zoo.cards import Card
from keras_free_adv.zoo.compact_resnet import compact_resnet
from keras_free_adv.zoo.fused_batch_normalization import FusedBatchNormalization
from keras_free_adv.zoo.fusing import fused
from keras_free_adv.zoo.preact_resnet import preact_resnet18
from keras_free_adv.zoo.pretrained_models import card, pretrained, pretrained_names
from keras_free_adv.zoo.small_cnn import small_cnn
from keras_free_adv.zoo.wide_resnet import wide_resnet

__all__ = [
    "Card",
    "FusedBatchNormalization",
    "card",
    "compact_resnet",
    "fused",
    "preact_resnet18",
    "pretrained",
    "pretrained_names",
    "small_cnn",
    "wide_resnet",
]
