"""Requests that TensorFlow Serving makes to itself before it says that it is ready.

https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from pathlib import Path
from typing import Any

import tensorflow as tf

FILE = Path("assets.extra") / "tf_serving_warmup_requests"


def write_warm_up_requests(
    folder: Path, model_name: str, requests: dict[str, list[dict[str, Any]]]
) -> None:
    """Writes requests beside a SavedModel.

    Args:
        folder: of the SavedModel.
        model_name: what the server calls the model.
        requests: of each signature, a list of its inputs: names to arrays.
    """
    predict_pb2, prediction_log_pb2 = _protos()
    path = folder / FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, several in requests.items():
            for inputs in several:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = model_name
                request.model_spec.signature_name = signature
                for name, value in inputs.items():
                    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                writer.write(log.SerializeToString())


def require_protos() -> None:
    """Raises if TensorFlow Serving's messages are not installed.

    Raises:
        ImportError: they are not.
    """
    _protos()


def _protos() -> tuple[Any, Any]:
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            "export_for_serving needs tensorflow-serving-api, for the requests that "
            'warm the server up. Install it with: pip install "keras_free_adv[serving]"'
        ) from error
    return predict_pb2, prediction_log_pb2
