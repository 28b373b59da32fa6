"""A TensorFlow Serving server, asked over gRPC or REST."""

import base64
import json
import re
import urllib.error
import urllib.request
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

# A request of 64 images of 224x224 in float32 has 38 MB; gRPC's own limit is 4.
MOST_BYTES = 256 * 2**20
PORTS = {"grpc": 8500, "rest": 8501}


class ServingError(RuntimeError):
    """The server could not be asked, or did not answer; the message says why."""


class Server:
    """A model on a server.

    Args:
        address: host, or host:port.
        model: what the server calls the model.
        version: of the model; None for the latest.
        protocol: "grpc" or "rest".
        timeout: seconds that a request may take.
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
        self.address = address if ":" in address else f"{address}:{PORTS[protocol]}"
        self.model = model
        self.version = version
        self.timeout = timeout
        self._ask = self._over_grpc if protocol == "grpc" else self._over_rest
        if protocol == "grpc":
            sizes = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
            channel = grpc.insecure_channel(
                self.address, options=[(name, MOST_BYTES) for name in sizes]
            )
            self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def ask(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs of a signature; strings are bytes.

        Raises:
            ServingError: there is no answer.
        """
        return self._ask(signature, inputs)

    def _over_grpc(
        self, signature: str, inputs: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        if self.version is not None:
            request.model_spec.version.value = self.version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            response = self._stub.Predict(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise self._explained(error.code().name, error.details()) from error
        return {name: tf.make_ndarray(one) for name, one in response.outputs.items()}

    def _over_rest(
        self, signature: str, inputs: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        version = "" if self.version is None else f"/versions/{self.version}"
        url = f"http://{self.address}/v1/models/{self.model}{version}:predict"
        asked = {
            "signature_name": signature,
            "inputs": {name: _as_json(value) for name, value in inputs.items()},
        }
        request = urllib.request.Request(
            url, json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                outputs = json.load(response)["outputs"]
        except urllib.error.HTTPError as error:
            with error:
                raise self._explained(_STATUS.get(error.code), _said(error)) from error
        except TimeoutError as error:
            raise self._explained("DEADLINE_EXCEEDED", "") from error
        except (urllib.error.URLError, ConnectionError) as error:
            late = isinstance(getattr(error, "reason", None), TimeoutError)
            code = "DEADLINE_EXCEEDED" if late else "UNAVAILABLE"
            raise self._explained(code, str(error)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise self._explained(None, f"{url} answers no JSON: {error}") from error
        return {name: _as_array(value) for name, value in outputs.items()}

    def _explained(self, code: str | None, details: str | None) -> ServingError:
        said = _without_nodes(details or "")
        called = f"model {self.model!r}"
        if self.version is not None:
            called += f", version {self.version},"
        return ServingError(
            {
                "UNAVAILABLE": f"Nobody answers at {self.address}. Is the server "
                f"running, and is this its port for this protocol? ({said})",
                "DEADLINE_EXCEEDED": f"{self.address} did not answer within "
                f"{self.timeout:g} seconds. Is it still loading the model, or busy? "
                "Wait, send fewer images at a time, or raise --timeout.",
                "NOT_FOUND": f"The server at {self.address} has no {called} yet, or "
                f"none of this name. ({said})",
                "INVALID_ARGUMENT": f"The server refused the request: {said}",
            }.get(code or "", f"The server answered with an error: {said}")
        )


# Of HTTP, as TensorFlow Serving answers.
_STATUS = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 504: "DEADLINE_EXCEEDED"}
_STATUS |= {503: "UNAVAILABLE"}


def _said(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text[:500]


def _without_nodes(details: str) -> str:
    """A message of TensorFlow, without the places in the graph."""
    said = re.sub(r"\n?\s*\[\[\{\{.*?\}\}\]\]", "", details, flags=re.S).strip()
    match = re.search(r"assertion failed: \[(.*)", said, re.S)
    return match[1].replace("] [", " ").rstrip("]") if match else said


def _as_json(value: np.ndarray) -> Any:
    if value.dtype.kind not in "SO":
        return value.tolist()
    return [{"b64": base64.b64encode(one).decode()} for one in value.tolist()]


def _as_array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8").astype(object)
    return array.astype("float32") if array.dtype.kind == "f" else array
