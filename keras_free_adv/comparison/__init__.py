"""Methods of training, compared on a user's own network, data and time."""

from keras_free_adv.comparison.compare_methods import compare_methods
from keras_free_adv.comparison.method_comparison import MethodComparison

__all__ = ["MethodComparison", "compare_methods"]
