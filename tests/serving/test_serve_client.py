"""The client of `examples/`: against a stand-in, and the real server where it is.

Which is `tensorflow_model_server` on the PATH, or one of yours: give its address in
KERAS_FREE_ADV_TF_SERVING, as HOST:GRPC_PORT:REST_PORT, and the folder that it polls for
versions of a model called "robust" in KERAS_FREE_ADV_TF_SERVING_FOLDER.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_free_adv import FreeAdversarialModel, datasets, export_for_serving, zoo
from tests.conftest import free_ports, from_logits
from tests.serving import stand_in_server
from tests.serving.artifacts import (
    NAMES,
    colour_images,
    encoded,
    probabilities,
    published,
    trained_model,
)

EXAMPLES = Path(__file__).parents[2] / "examples"
BOTH = pytest.mark.parametrize("protocol", ["grpc", "rest"])


@pytest.fixture(scope="module", autouse=True)
def examples_on_the_path():
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return trained_model(epochs=4)


@pytest.fixture(scope="module")
def artifact(model, tmp_path_factory):
    return published(model, tmp_path_factory.mktemp("served"), class_names=NAMES)


@pytest.fixture(scope="module")
def ports(artifact):
    with stand_in_server.running(stand_in_server.Served(artifact, "robust")) as ports:
        yield ports


def server(ports, protocol, **settings):
    from tf_serving import Server

    address = f"{ports.get('host', 'localhost')}:{ports[protocol]}"
    settings = {"model": "robust", "timeout": 20.0} | settings
    return Server(address, protocol=protocol, **settings)


def check_all_signatures(model, ports, protocol, **settings):
    asked = server(ports, protocol, **settings)
    images, _ = colour_images(5, seed=1)
    floats = (images / 255).astype("float32")
    expected = probabilities(model.model, floats)
    files = np.array([encoded(image, "PNG") for image in images], object)
    for signature, inputs in (
        ("serving_default", {"images": floats}),
        ("serve_uint8", {"images": images}),
        ("serve_bytes", {"image_bytes": files}),
    ):
        answers = asked.ask(signature, **inputs)
        np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-5)
        best = expected.argmax(-1)
        np.testing.assert_array_equal(answers["class_ids"][:, 0], best)
        assert [n.decode() for n in answers["class_names"][:, 0]] == [
            NAMES[number] for number in best
        ]


def check_refusals(ports, protocol):
    from tf_serving import ServingError

    images, _ = colour_images(2)
    floats = (images / 255).astype("float32")
    floats[1, 0, 0, 0] = 7
    with pytest.raises(ServingError, match="refused.*: Input `images` must"):
        server(ports, protocol).ask("serving_default", images=floats)
    cut = np.array([encoded(images[0], "PNG")[:60]], object)
    with pytest.raises(ServingError, match="refused the request"):
        server(ports, protocol).ask("serve_bytes", image_bytes=cut)
    for settings in ({"model": "other"}, {"version": 99}):
        with pytest.raises(ServingError, match="has no model .* yet, or none of this"):
            server(ports, protocol, **settings).ask("serve_uint8", images=images)


@BOTH
def test_each_signature_answers_as_keras(model, ports, protocol):
    check_all_signatures(model, ports, protocol)


@BOTH
def test_what_the_server_refuses_is_told(ports, protocol):
    check_refusals(ports, protocol)


@BOTH
def test_a_request_may_be_large(ports, protocol):
    """Of more than gRPC's own limit, 4 MB."""
    count = 8000 if protocol == "grpc" else 2000  # in JSON a number takes 20 bytes
    images = np.tile(colour_images(2)[0], (count // 2, 1, 1, 1))
    floats = (images / 255).astype("float32")
    answers = server(ports, protocol, timeout=60).ask("serving_default", images=floats)
    assert len(answers["class_ids"]) == len(floats)


@BOTH
def test_nobody_there_and_too_slow(artifact, protocol):
    from tf_serving import ServingError

    images, _ = colour_images(1)
    (port,) = free_ports(1)
    with pytest.raises(ServingError, match=f"Nobody answers at localhost:{port}"):
        server({protocol: port}, protocol).ask("serve_uint8", images=images)
    slow = stand_in_server.Served(artifact, "robust", delay=1.0)
    with (
        stand_in_server.running(slow) as ports,
        pytest.raises(ServingError, match=r"not answer within 0.2 seconds.*--timeout"),
    ):
        server(ports, protocol, timeout=0.2).ask("serve_uint8", images=images)


def client(*flags):
    return subprocess.run(
        [sys.executable, EXAMPLES / "serve_client.py", *flags],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )


def test_the_command_tells_classes_and_refuses_what_is_no_image(model, ports, tmp_path):
    images, _ = colour_images(2, seed=3)
    expected = probabilities(model.model, (images / 255).astype("float32"))
    paths = [tmp_path / "a.png", tmp_path / "long name.png"]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(encoded(image, "PNG"))
    flags = ["--model=robust", "--protocol=rest", f"--server=localhost:{ports['rest']}"]
    ended = client(*flags, *paths)
    assert ended.returncode == 0, ended.stderr
    for line, path, shares in zip(
        ended.stdout.splitlines(), paths, expected, strict=True
    ):
        best = shares.argmax()
        assert line.startswith(str(path))
        assert f"{NAMES[best]} {shares[best]:.1%}" in line
    (tmp_path / "text.png").write_text("no image")
    ended = client(*flags, tmp_path / "text.png")
    assert ended.returncode != 0
    assert "text.png is no JPEG or PNG file" in ended.stderr + ended.stdout
    ended = client(*flags, tmp_path / "absent.png")
    assert "absent.png cannot be read: No such file" in ended.stderr + ended.stdout
    ended = client("--model=robust", f"--server=localhost:{free_ports(1)[0]}", paths[0])
    assert ended.returncode == 1
    assert "Nobody answers" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_curl_of_the_docs_answers(digits, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("needs curl on the PATH")
    page = (EXAMPLES.parent / "docs" / "serving.md").read_text()
    (command,) = re.findall(r"```sh\n(curl .*?)```", page, re.S)
    image = next(iter(datasets.load("digits", split="test", batch_size=1)))[0][0]
    pixels = np.round(image * 255).astype("uint8")
    (tmp_path / "digit.png").write_bytes(encoded(pixels, "PNG"))
    model = keras.models.load_model(digits)
    artifact = Path(export_for_serving(model, tmp_path / "digits"))
    served = stand_in_server.Served(artifact, "digits")
    with stand_in_server.running(served) as ports:
        ended = subprocess.run(
            ["bash", "-c", command.replace("8501", str(ports["rest"]))],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=True,
        )
    answers = json.loads(ended.stdout)["outputs"]
    expected = probabilities(model, pixels[None] / np.float32(255))
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-5)
    assert answers["class_names"][0][0] == str(expected.argmax())


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A model of digits that has learned something, in a file."""
    keras.utils.set_random_seed(0)
    data = datasets.load("digits", split="train", batch_size=64)
    network = zoo.small_cnn(classes=10, input_shape=(8, 8, 1))
    model = FreeAdversarialModel(network, 0.1, replays=2)
    model.compile("adam", from_logits())
    model.fit(data, epochs=6, verbose=0)
    path = tmp_path_factory.mktemp("digits") / "model.keras"
    model.save(path)
    return path


def probing(digits, artifact, protocol="grpc"):
    with stand_in_server.running(
        stand_in_server.Served(Path(artifact), "digits")
    ) as ports:
        return client(
            "--model=digits",
            "--probe",
            f"--protocol={protocol}",
            f"--server=localhost:{ports[protocol]}",
            f"--keras_model={digits}",
            "--dataset=digits",
            "--epsilon=0.1",
            "--examples=64",
            "--queries=30",
        )


def test_a_probe_of_the_right_model(digits, tmp_path):
    model = keras.models.load_model(digits)
    ended = probing(digits, export_for_serving(model, tmp_path / "digits"))
    assert ended.returncode == 0, ended.stderr
    assert "answers as the Keras model does" in ended.stdout
    rows = [line.split() for line in ended.stdout.splitlines()[1:6]]
    assert [row[0] for row in rows] == [
        "clean,",
        "clean,",
        "clean,",
        "PGD-20,",
        "Square",
    ]
    accuracies = [[float(word.rstrip("%")) for word in row[-3:-1]] for row in rows]
    assert all(ours == theirs for ours, theirs in accuracies)
    clean, pgd, square = accuracies[0][0], accuracies[3][0], accuracies[4][0]
    assert clean > 80
    assert pgd < square < clean


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("scaled twice", "as the Keras model does for pixels divided by 255"),
        ("upside down", "as the Keras model does for images upside down"),
        ("weights", "are these the same weights"),
        ("8-bit", "a step before the network is wrong"),
    ],
)
def test_a_probe_of_a_wrong_model_says_what_is_wrong(digits, tmp_path, wrong, said):
    network = keras.models.load_model(digits).model
    settings = {}
    if wrong == "weights":
        network.layers[-1].bias.assign_add(np.arange(10.0))
    elif wrong == "8-bit":
        # As if the model took pixels of [0, 4]: what is below 1 is not refused.
        settings["value_range"] = (0, 4)
    else:
        first = {
            "scaled twice": keras.layers.Rescaling(1 / 255),
            "upside down": keras.layers.Lambda(lambda x: x[:, ::-1]),
        }[wrong]
        network = keras.Sequential([keras.Input((8, 8, 1)), first, network])
    ended = probing(
        digits, export_for_serving(network, tmp_path / "digits", **settings)
    )
    assert ended.returncode == 1
    assert "WARNING: not the model that was trained" in ended.stderr
    assert said in ended.stderr


@pytest.fixture(scope="module")
def real_server(model, artifact, tmp_path_factory):
    """Where it is, and the version that it serves."""
    given = os.environ.get("KERAS_FREE_ADV_TF_SERVING")
    binary = shutil.which("tensorflow_model_server")
    if given:
        host, grpc_port, rest_port = given.split(":")
        folder = os.environ["KERAS_FREE_ADV_TF_SERVING_FOLDER"]
        path = export_for_serving(model, folder, class_names=NAMES)
        ports = {"host": host, "grpc": grpc_port, "rest": rest_port}
        _wait_for(ports, int(Path(path).name))
        yield ports, int(Path(path).name)
    elif binary:
        grpc_port, rest_port = free_ports(2)
        command = [binary, f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
        command += ["--model_name=robust", f"--model_base_path={artifact.parent}"]
        with (tmp_path_factory.mktemp("server") / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            ports = {"grpc": grpc_port, "rest": rest_port}
            try:
                _wait_for(ports, 1)
                yield ports, 1
            finally:
                process.kill()
                process.wait()
    else:
        pytest.skip(
            "needs tensorflow_model_server on the PATH, or the address of a server in "
            "KERAS_FREE_ADV_TF_SERVING"
        )


def _wait_for(ports, version):
    from tf_serving import ServingError

    images, _ = colour_images(1)
    for _ in range(60):
        try:
            server(ports, "grpc", version=version).ask("serve_uint8", images=images)
            return
        except ServingError:
            time.sleep(1)
    raise TimeoutError("the server was not ready within a minute")


@BOTH
def test_the_real_server(model, real_server, protocol):
    ports, version = real_server
    check_all_signatures(model, ports, protocol, version=version)
    check_refusals(ports, protocol)
