"""The trained model as artifacts for servers and devices, without its training."""

from keras_free_adv.serving.agreement import ExportDisagreesError
from keras_free_adv.serving.export_for_litert import export_for_litert
from keras_free_adv.serving.export_for_serving import export_for_serving

__all__ = [
    "ExportDisagreesError",
    "export_for_litert",
    "export_for_serving",
]
