"""Free adversarial training for Keras: robustness in one changed line.

`model = FreeAdversarialModel(model, epsilon=8 / 255)`, and `fit` as before. What is
listed in `__all__` is also found in the subpackage of its kind: `attacks`, `callbacks`,
`comparison`, `data`, `evaluation`, `serving` or `training`. Besides these, there are
`datasets`, `zoo`, `recipes`, `optimizers`, `plotting` and `teaching`.

What is here is imported when it is used; `__init__.pyi` says from where.
"""

import lazy_loader

from keras_free_adv import registration
from keras_free_adv.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ = [name for name in __all__ if name != "plotting"]  # which needs an extra

registration.when_keras_is_imported()
