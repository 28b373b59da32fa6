"""Answers as TensorFlow Serving does, over gRPC and REST, from an exported artifact.

The real server is in no package registry; what it sends and takes is written down at
https://www.tensorflow.org/tfx/serving/api_rest and in its messages.
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import re
import threading
import time

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

NOT_FOUND = "Servable not found for request: Latest({})"


class Unknown(Exception):
    """There is no such model, version or signature."""


class Served:
    """What the server holds; `delay` is how long each request takes."""

    def __init__(self, path, name, delay=0.0):
        self.loaded = tf.saved_model.load(str(path))
        self.version, self.name, self.delay = int(path.name), name, delay

    def answer(self, name, version, signature, inputs):
        time.sleep(self.delay)
        if name != self.name or version not in (None, self.version):
            raise Unknown(NOT_FOUND.format(name))
        function = self.loaded.signatures[signature or "serving_default"]
        expected = function.structured_input_signature[1]
        tensors = {n: tf.constant(v, expected[n].dtype) for n, v in inputs.items()}
        return {n: v.numpy() for n, v in function(**tensors).items()}


class OverGrpc(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, served):
        self.served = served

    def Predict(self, request, context):
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        inputs = {n: tf.make_ndarray(v) for n, v in request.inputs.items()}
        try:
            outputs = self.served.answer(
                spec.name, version, spec.signature_name, inputs
            )
        except Unknown as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except tf.errors.InvalidArgumentError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        response = predict_pb2.PredictResponse()
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


def handler(served):
    class OverRest(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            size = int(self.headers["Content-Length"])
            asked = json.loads(self.rfile.read(size))
            found = re.fullmatch(
                r"/v1/models/(\w+)(?:/versions/(\d+))?:predict", self.path
            )
            try:
                version = found[2] and int(found[2])
                inputs = {n: as_array(v) for n, v in asked["inputs"].items()}
                outputs = served.answer(
                    found[1], version, asked.get("signature_name"), inputs
                )
                self.say(200, {"outputs": {n: as_json(v) for n, v in outputs.items()}})
            except Unknown as error:
                self.say(404, {"error": str(error)})
            except tf.errors.InvalidArgumentError as error:
                self.say(400, {"error": error.message})

        def say(self, status, what):
            text = json.dumps(what).encode()
            # Of a client that waits no longer.
            with contextlib.suppress(BrokenPipeError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        def log_message(self, *args):
            pass

    return OverRest


def as_array(value):
    if value and isinstance(value, list) and isinstance(value[0], dict):
        return np.array([base64.b64decode(one["b64"]) for one in value], object)
    return np.array(value)


def as_json(value):
    if value.dtype.kind == "O":
        return [[one.decode() for one in row] for row in value]
    return value.tolist()


@contextlib.contextmanager
def running(served):
    """Gives the ports of gRPC and REST."""
    pool = concurrent.futures.ThreadPoolExecutor(2)
    over_grpc = grpc.server(pool, options=[("grpc.max_receive_message_length", 2**28)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        OverGrpc(served), over_grpc
    )
    grpc_port = over_grpc.add_insecure_port("localhost:0")
    over_grpc.start()
    over_rest = http.server.ThreadingHTTPServer(("localhost", 0), handler(served))
    thread = threading.Thread(target=over_rest.serve_forever)
    thread.start()
    try:
        yield {"grpc": grpc_port, "rest": over_rest.server_port}
    finally:
        over_grpc.stop(None).wait()
        over_rest.shutdown()
        over_rest.server_close()
        thread.join()
        pool.shutdown()
