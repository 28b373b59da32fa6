"""An optimizer that gets convolutional networks far in few updates."""

from keras_free_adv.optimizers.muon import Muon

__all__ = ["Muon"]
