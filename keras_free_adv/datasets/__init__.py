"""Image classification sets as tf.data pipelines.

`load` needs the extra `datasets` (`pip install "keras_free_adv[datasets]"`).
"""

from keras_free_adv.datasets.loading import load, load_arrays, load_folder

__all__ = ["load", "load_arrays", "load_folder"]
