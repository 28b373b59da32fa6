"""Pictures of attacks and of robust models.

Needs the extra `plot` (`pip install "keras_free_adv[plot]"`). Each function returns a
`matplotlib.figure.Figure` and draws without a display; save it with
`figure.savefig(path)`.
"""

try:
    import matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError(
        "keras_free_adv.plotting needs matplotlib. "
        'Install it with: pip install "keras_free_adv[plot]"'
    ) from error

from keras_free_adv.plotting.accuracy_against_time import (
    plot_accuracy_against_time,
    plot_published_cost,
)
from keras_free_adv.plotting.adversarial_examples import plot_adversarial_examples
from keras_free_adv.plotting.attack_strength import plot_attack_strength
from keras_free_adv.plotting.delta import plot_delta
from keras_free_adv.plotting.delta_history import plot_delta_history
from keras_free_adv.plotting.input_gradients import plot_input_gradients
from keras_free_adv.plotting.large_epsilon import plot_large_epsilon
from keras_free_adv.plotting.loss_surface import plot_loss_surface
from keras_free_adv.plotting.robustness_curve import plot_robustness_curve
from keras_free_adv.plotting.training_history import plot_training_history

__all__ = [
    "plot_accuracy_against_time",
    "plot_adversarial_examples",
    "plot_attack_strength",
    "plot_delta",
    "plot_delta_history",
    "plot_input_gradients",
    "plot_large_epsilon",
    "plot_loss_surface",
    "plot_published_cost",
    "plot_robustness_curve",
    "plot_training_history",
]
