"""A TensorFlow Serving server, asked over gRPC or REST."""

import base64
import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import numpy as np
import tensorflow as tf

try:
    import grpc
    from tensorflow_serving.apis import (
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )
except ImportError as error:
    raise ImportError(
        "keras_free_adv.serving.tf_serving needs tensorflow-serving-api, to ask a "
        'server. Install it with: pip install "keras_free_adv[serving]"'
    ) from error

# A request of 64 images of 224x224 in float32 has 38 MB; gRPC's own limit is 4.
MOST_BYTES = 256 * 2**20
PORTS = {"grpc": 8500, "rest": 8501}


class ServingError(RuntimeError):
    """The server could not be asked, or did not answer; the message says why."""


class RefusedError(ServingError):
    """The server answers others: what is in this request it refuses."""


class _Failed(Exception):
    """A request failed: gRPC's name of the status, and what the server said."""

    def __init__(self, code: str, details: str) -> None:
        self.code = code
        self.said = _without_nodes(details)
        super().__init__(code, self.said)


# TensorFlow Serving's codes of HTTP, for those that are told apart.
_CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 504: "DEADLINE_EXCEEDED"}


# What gRPC says itself of a server that it does not reach.
_NO_CONNECTION = re.compile(
    r"failed to connect|resol(ution|ve)|connection (refused|reset|attempt)|"
    r"socket closed|handshake|timed? ?out|FD shutdown|GOAWAY",
    re.I,
)


def _without_nodes(details: str) -> str:
    """A message of TensorFlow, without the places in the graph."""
    # The server cuts long messages, also within a place.
    said = re.sub(r"\n\t \[\[.*?(\]\]|$)", "", details, flags=re.M).strip()
    match = re.search(r"assertion failed: \[(.*)", said, re.S)
    if match:
        return match[1].replace("] [", " ").rstrip("]")
    # A decoder's own message does not say what it decoded; the place does.
    place = re.search(r"\{\{node [^}]*?\b(image_bytes)/", details)
    return f"Input `{place[1]}`: {said}" if place else said


class Server:
    """A model on a server.

    Args:
        address: host, or host:port.
        model: what the server calls the model.
        version: of the model; None for the latest.
        protocol: "grpc" or "rest".
        timeout: seconds that a request may take.

    Raises:
        ValueError: the address is none.
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        version: int | None = None,
        protocol: str = "grpc",
        timeout: float = 10.0,
    ) -> None:
        self.address = _with_port(address, PORTS[protocol])
        self.model = model
        self.version = version
        self.protocol = protocol
        self.timeout = timeout
        if protocol == "grpc":
            sizes = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
            channel = grpc.insecure_channel(
                self.address, options=[(name, MOST_BYTES) for name in sizes]
            )
            self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(
                channel
            )
            self._models = model_service_pb2_grpc.ModelServiceStub(channel)

    def ask(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs of a signature; strings are bytes.

        Raises:
            RefusedError: something is wrong with the inputs.
            ServingError: there is no answer.
        """
        ask = self._ask_grpc if self.protocol == "grpc" else self._ask_rest
        try:
            return ask(signature, inputs)
        except _Failed as failed:
            raise self._explained(failed) from failed

    def versions(self) -> dict[int, str]:
        """The model's versions and their states: LOADING, AVAILABLE, END...

        Raises:
            ServingError: there is no answer, or no such model.
        """
        try:
            if self.protocol == "grpc":
                request = get_model_status_pb2.GetModelStatusRequest()
                request.model_spec.name = self.model
                found = self._grpc(self._models.GetModelStatus, request)
                state = get_model_status_pb2.ModelVersionStatus.State
                return {
                    one.version: state.Name(one.state)
                    for one in found.model_version_status
                }
            listed = self._rest("")["model_version_status"]
            return {int(one["version"]): one["state"] for one in listed}
        except _Failed as failed:
            raise ServingError(failed.said) from failed

    def _ask_grpc(
        self, signature: str, inputs: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        if self.version is not None:
            request.model_spec.version.value = self.version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        response = self._grpc(self._predictions.Predict, request)
        return {name: tf.make_ndarray(one) for name, one in response.outputs.items()}

    def _ask_rest(
        self, signature: str, inputs: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        version = "" if self.version is None else f"/versions/{self.version}"
        asked = {
            "signature_name": signature,
            "inputs": {name: _as_json(value) for name, value in inputs.items()},
        }
        outputs = self._rest(f"{version}:predict", asked)["outputs"]
        return {name: _as_array(value) for name, value in outputs.items()}

    def _grpc(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            code, details = error.code().name, error.details() or ""
            if code == "UNAVAILABLE" and not _NO_CONNECTION.search(details):
                code = "OVERLOADED"  # the server said so itself
            raise _Failed(code, details) from error

    def _rest(self, what: str, asked: Any = None) -> dict[str, Any]:
        """What `what` of the model answers: POST if something is asked, or GET."""
        model = urllib.parse.quote(self.model, safe="")
        request = urllib.request.Request(
            f"http://{self.address}/v1/models/{model}{what}",
            None if asked is None else json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise _of_status(error.code, error.read()) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise _Failed("DEADLINE_EXCEEDED", "") from error
            speaks = isinstance(reason, OSError)
            said = str(reason) if speaks else "it does not speak HTTP"
            raise _Failed("UNAVAILABLE", said) from error
        try:
            return dict(json.loads(text))
        except (ValueError, TypeError) as error:
            said = f"no JSON, but {text[:100]!r}: is it TensorFlow Serving?"
            raise _Failed("UNKNOWN", said) from error

    def _explained(self, failed: _Failed) -> ServingError:
        if failed.code == "INVALID_ARGUMENT":
            return RefusedError(f"The server refused the request: {failed.said}")
        if failed.code == "NOT_FOUND":
            return ServingError(f"The server at {self.address} {self._missing()}")
        return ServingError(
            {
                "UNAVAILABLE": f"Nobody answers at {self.address}. Is the server "
                "running, has it loaded its models (before, it does not listen), and "
                f"is this its port for {self.protocol}? ({failed.said})",
                "DEADLINE_EXCEEDED": f"{self.address} did not answer within "
                f"{self.timeout:g} seconds. Is this its address, and is it busy? Wait, "
                "or raise --timeout.",
            }.get(failed.code, f"The server answered with an error: {failed.said}")
        )

    def _missing(self) -> str:
        """Of a model or version that is not there: what is there instead."""
        try:
            versions = self.versions()
        except ServingError as error:
            return f"has no model {self.model!r}. ({error})"
        found = {v: s for v, s in versions.items() if self.version in (None, v)}
        if {"START", "LOADING"} & set(found.values()):
            return f"is still loading model {self.model!r}: wait, and ask again."
        wanted = "ready" if self.version is None else str(self.version)
        listed = ", ".join(f"{v} ({s})" for v, s in sorted(versions.items()))
        return f"has no version {wanted} of model {self.model!r}. It has: {listed}."


def _with_port(address: str, port: int) -> str:
    match = re.fullmatch(r"([^\s/:]+|\[[\da-fA-F:]+\])(?::(\d{1,5}))?", address)
    if not match or int(match[2] or 0) > 65535:
        raise ValueError(f"expected host or host:port. Received: {address!r}.")
    return address if match[2] else f"{address}:{port}"


def _of_status(status: int, text: bytes) -> _Failed:
    try:
        return _Failed(_CODES.get(status, "UNKNOWN"), str(json.loads(text)["error"]))
    except (ValueError, KeyError, TypeError):
        said = f"HTTP status {status}, {text[:100]!r}: is it TensorFlow Serving?"
        return _Failed("UNKNOWN", said)


def _as_json(value: np.ndarray) -> Any:
    if value.dtype.kind not in "SO":
        return value.tolist()
    return [{"b64": base64.b64encode(one).decode()} for one in value.tolist()]


def _as_array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8").astype(object)
    return array.astype("float32") if array.dtype.kind == "f" else array
