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
import urllib.parse

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

NOT_FOUND = "Servable not found for request: {}"


class Unknown(Exception):
    """There is no such model or version."""


class Served:
    """What the server holds: the latest version that was published, or nothing yet.

    Attributes:
        name: of the model.
        delay: how long each request takes, in seconds.
        state: of the version.
        limit: requests that are answered; after them it has other things to do.
    """

    def __init__(
        self, path=None, name="robust", delay=0.0, state="AVAILABLE", limit=10**9
    ):
        self.name, self.delay, self.state, self.limit = name, delay, state, limit
        self.version = None
        if path is not None:
            self.publish(path)

    def publish(self, path):
        self.loaded = tf.saved_model.load(str(path))
        self.version = int(path.name)

    def answer(self, name, version, signature, inputs):
        time.sleep(self.delay)
        if (
            name != self.name
            or version not in (None, self.version)
            or self.state != "AVAILABLE"
        ):
            wanted = "Latest({})" if version is None else "Specific({}, {})"
            raise Unknown(NOT_FOUND.format(wanted.format(name, version)))
        self.limit -= 1
        if self.limit < 0:
            raise tf.errors.UnavailableError(None, None, "the queue is full")
        function = self.loaded.signatures[signature]
        expected = function.structured_input_signature[1]
        tensors = {n: tf.constant(v, expected[n].dtype) for n, v in inputs.items()}
        try:
            return {n: v.numpy() for n, v in function(**tensors).items()}
        except tf.errors.InvalidArgumentError as error:
            raise tf.errors.InvalidArgumentError(
                None, None, as_in_a_session(error.message)
            ) from error

    def status(self, name):
        if name != self.name or self.version is None:
            raise Unknown(f"Could not find any versions of model {name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        states = get_model_status_pb2.ModelVersionStatus.State
        response.model_version_status.add(
            version=self.version, state=states.Value(self.state)
        )
        return response


def as_in_a_session(message):
    """As the server's C++ session puts it; Python adds a head and an end."""
    said = re.sub(
        r"^Graph execution error:.*<stack traces unavailable>\n",
        "",
        message,
        flags=re.S,
    )
    return re.sub(r" \[Op:\w+\]", "", said)


@contextlib.contextmanager
def told(context):
    try:
        yield
    except Unknown as error:
        context.abort(grpc.StatusCode.NOT_FOUND, str(error))
    except tf.errors.InvalidArgumentError as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
    except tf.errors.UnavailableError as error:
        context.abort(grpc.StatusCode.UNAVAILABLE, error.message)


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, served):
        self.served = served

    def Predict(self, request, context):
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        inputs = {n: tf.make_ndarray(v) for n, v in request.inputs.items()}
        response = predict_pb2.PredictResponse()
        with told(context):
            outputs = self.served.answer(
                spec.name, version, spec.signature_name, inputs
            )
            for name, value in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


class Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, served):
        self.served = served

    def GetModelStatus(self, request, context):
        with told(context):
            return self.served.status(request.model_spec.name)


def handler(served):
    class OverRest(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            size = int(self.headers["Content-Length"])
            asked = json.loads(self.rfile.read(size))
            self.answer(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict", asked)

        def do_GET(self):
            self.answer(r"/v1/models/([^/:]+)", None)

        def answer(self, path, asked):
            found = re.fullmatch(path, urllib.parse.unquote(self.path))
            if not found:
                self.say(400, {"error": f"Malformed request: {self.path}"})
                return
            try:
                self.say(200, self.found(asked, *found.groups()))
            except Unknown as error:
                self.say(404, {"error": str(error)})
            except tf.errors.InvalidArgumentError as error:
                self.say(400, {"error": error.message})
            except tf.errors.UnavailableError as error:
                self.say(503, {"error": error.message})

        def found(self, asked, name, version=None):
            if asked is None:
                return json_format.MessageToDict(
                    served.status(name), preserving_proto_field_name=True
                )
            outputs = served.answer(
                name,
                version and int(version),
                asked.get("signature_name", "serving_default"),
                {n: as_array(v) for n, v in asked["inputs"].items()},
            )
            return {"outputs": {n: as_json(v) for n, v in outputs.items()}}

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
        Predictions(served), over_grpc
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(served), over_grpc)
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
