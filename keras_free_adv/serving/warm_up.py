"""Requests that TensorFlow Serving makes to itself before it reports to be ready.

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
        folder: folder of the SavedModel.
        model_name: the server's name of the model.
        requests: signature to a list of its inputs, each a dict of name to array.
    """
    predict_pb2, prediction_log_pb2 = import_protos()
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


def import_protos() -> tuple[Any, Any]:
    """Imports TensorFlow Serving's messages; raises ImportError with the remedy."""
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            "export_for_serving needs tensorflow-serving-api, for the requests that "
            'warm the server up. Install it with: pip install "keras_free_adv[serving]"'
        ) from error
    return predict_pb2, prediction_log_pb2
