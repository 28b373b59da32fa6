"""The client of `examples/`: against a stand-in, and the real server where it is.

Which is `tensorflow_model_server` on the PATH, or one of yours: give its address in
KERAS_FREE_ADV_TF_SERVING, as HOST:GRPC_PORT:REST_PORT, and the folder that it polls for
versions of a model called "robust" in KERAS_FREE_ADV_TF_SERVING_FOLDER.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver

from keras_free_adv import FreeAdversarialModel, datasets, export_for_serving, zoo
from tests import forked
from tests.command_line import program
from tests.conftest import free_ports, from_logits
from tests.serving import stand_in_server
from tests.serving.artifacts import (
    NAMES,
    colour_images,
    colour_network,
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


class Deployment:
    """A server of a model called "robust", and how to publish to it.

    Attributes:
        ports: of each protocol, and the host if it is not this one.
    """

    def __init__(self, ports, folder, take_over):
        self.ports, self.folder, self.take_over = ports, folder, take_over
        self.served = None

    def serve(self, model, **settings):
        """Publishes a model unless it is the one that is served."""
        if self.served is not model:
            path = export_for_serving(model, self.folder, **settings)
            self.take_over(self.ports, Path(path))
            self.served = model
        return self


@contextlib.contextmanager
def stand_in(folder):
    served = stand_in_server.Served()
    with stand_in_server.running(served) as ports:
        yield Deployment(ports, folder, lambda _, path: served.publish(path))


@contextlib.contextmanager
def given_server(address):
    host, grpc_port, rest_port = address.split(":")
    folder = os.environ.get("KERAS_FREE_ADV_TF_SERVING_FOLDER")
    if not folder:
        pytest.fail("KERAS_FREE_ADV_TF_SERVING_FOLDER must name the folder it polls")
    ports = {"host": host, "grpc": grpc_port, "rest": rest_port}
    yield Deployment(ports, folder, wait_for)


@contextlib.contextmanager
def started_server(binary, folder):
    export_for_serving(colour_network(), folder)  # it does not start without one
    grpc_port, rest_port = free_ports(2)
    command = [binary, f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
    command += ["--model_name=robust", f"--model_base_path={folder}"]
    with folder.with_name("log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            ports = {"grpc": grpc_port, "rest": rest_port}
            yield Deployment(ports, folder, wait_for)
        finally:
            process.kill()
            process.wait()


def wait_for(ports, path):
    """Until a version is served."""
    from keras_free_adv.serving.tf_serving import ServingError

    for _ in range(60):
        with contextlib.suppress(ServingError):
            states = server(ports, "grpc").versions()
            if states.get(int(path.name)) == "AVAILABLE":
                return
        time.sleep(1)
    raise TimeoutError("the server did not take the version over within a minute")


@pytest.fixture(scope="module", params=["stand-in", "tensorflow_model_server"])
def deployment(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server") / "robust"
    address = os.environ.get("KERAS_FREE_ADV_TF_SERVING")
    binary = shutil.which("tensorflow_model_server")
    if request.param == "stand-in":
        running = stand_in(folder)
    elif address:
        running = given_server(address)
    elif binary:
        running = started_server(binary, folder)
    else:
        pytest.skip(
            "needs tensorflow_model_server on the PATH, or the address of a server in "
            "KERAS_FREE_ADV_TF_SERVING"
        )
    with running as found:
        yield found


@pytest.fixture
def ports(deployment, model):
    return deployment.serve(model, class_names=NAMES).ports


def address_of(ports, protocol):
    return f"{ports.get('host', 'localhost')}:{ports[protocol]}"


def server(ports, protocol, **settings):
    from keras_free_adv.serving.tf_serving import Server

    settings = {"model": "robust", "timeout": 20.0} | settings
    return Server(address_of(ports, protocol), protocol=protocol, **settings)


@BOTH
def test_each_signature_answers_as_keras(model, ports, protocol):
    asked = server(ports, protocol)
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


@BOTH
def test_a_version_may_be_named(ports, protocol):
    from keras_free_adv.serving.tf_serving import ServingError

    images, _ = colour_images(1)
    versions = server(ports, protocol).versions()
    (newest,) = (v for v, state in versions.items() if state == "AVAILABLE")
    asked = server(ports, protocol, version=newest)
    assert len(asked.ask("serve_uint8", images=images)["class_ids"]) == 1
    asked = server(ports, protocol, version=9999)
    said = rf"has no version 9999 of model 'robust'. It has: .*{newest} \(AVAILABLE\)"
    with pytest.raises(ServingError, match=said):
        asked.ask("serve_uint8", images=images)


@BOTH
def test_what_the_server_refuses_is_told(ports, protocol):
    from keras_free_adv.serving.tf_serving import RefusedError, ServingError

    images, _ = colour_images(2)
    floats = (images / 255).astype("float32")
    floats[1, 0, 0, 0] = 7
    with pytest.raises(RefusedError) as error:
        server(ports, protocol).ask("serving_default", images=floats)
    assert str(error.value) == (
        "The server refused the request: Input `images` must hold finite pixels from 0 "
        "to 1; uint8 pixels have a signature of their own, serve_uint8. Received: 7 "
        "among 1 pixels that are not"
    )
    cut = np.array([encoded(images[0], "PNG")[:60]], object)
    with pytest.raises(
        RefusedError, match="Input `image_bytes`: Invalid PNG data, size 60$"
    ):
        server(ports, protocol).ask("serve_bytes", image_bytes=cut)
    for name in ("other", "of two words"):
        with pytest.raises(ServingError, match=f"has no model '{name}'"):
            server(ports, protocol, model=name).ask("serve_uint8", images=images)


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
    from keras_free_adv.serving.tf_serving import ServingError

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


@BOTH
def test_a_server_that_loads_or_is_overloaded_is_no_absent_one(artifact, protocol):
    from keras_free_adv.serving.tf_serving import ServingError

    images, _ = colour_images(1)
    for settings, said in (
        ({"state": "LOADING"}, "is still loading model 'robust': wait"),
        ({"state": "END"}, r"no version ready of model 'robust'. It has: 1 \(END\)"),
        ({"limit": 0}, "the queue is full"),
    ):
        served = stand_in_server.Served(artifact, "robust", **settings)
        with (
            stand_in_server.running(served) as ports,
            pytest.raises(ServingError, match=said) as error,
        ):
            server(ports, protocol).ask("serve_uint8", images=images)
        assert "Nobody answers" not in str(error.value)


@BOTH
def test_the_port_of_the_other_protocol(ports, protocol):
    from keras_free_adv.serving.tf_serving import ServingError

    other = {"grpc": "rest", "rest": "grpc"}[protocol]
    images, _ = colour_images(1)
    with pytest.raises(ServingError, match=f"is this its port for {protocol}"):
        server({**ports, protocol: ports[other]}, protocol).ask(
            "serve_uint8", images=images
        )


@pytest.fixture
def client(capsys):
    """Runs the command in this process: it takes long to import TensorFlow."""
    import serve_client

    def run(*words):
        code, said = 0, ""
        with flagsaver.flagsaver():
            words = flags.FLAGS(["serve_client.py", *map(str, words)])
            try:
                serve_client.main(words)
            except SystemExit as ended:
                code, said = 1, str(ended)
            except app.UsageError as error:
                code, said = 2, str(error)
        return SimpleNamespace(code=code, said=said, out=capsys.readouterr().out)

    return run


def test_the_command_tells_classes(client, model, ports, tmp_path):
    images, _ = colour_images(3, seed=3)
    expected = probabilities(model.model, (images / 255).astype("float32"))
    paths = [tmp_path / name for name in ("a.png", "cut.png", "long name.png")]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(encoded(image, "PNG"))
    server = f"--server={address_of(ports, 'rest')}"
    flags = ["--model=robust", "--protocol=rest", server]

    def check(out, which):
        for line, number in zip(out.splitlines(), which, strict=True):
            best = expected[number].argmax()
            assert line.startswith(str(paths[number]))
            assert f"{NAMES[best]} {expected[number][best]:.1%}" in line

    ended = client(*flags, *paths)
    assert ended.code == 0, ended.said
    check(ended.out, [0, 1, 2])
    # One that is damaged is named, and the others are answered.
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    ended = client(*flags, *paths)
    check(ended.out, [0, 2])
    assert ended.code == 1
    assert ended.said.startswith(
        f"{paths[1]}: The server refused the request: Input `image_bytes`: Invalid"
    )


def test_what_is_no_image_is_refused_before_anything_is_sent(client, tmp_path):
    nobody = f"--server=localhost:{free_ports(1)[0]}"
    image = tmp_path / "image.png"
    image.write_bytes(encoded(colour_images(1)[0][0], "PNG"))
    (tmp_path / "text.png").write_text("no image")
    for path, said in (
        (tmp_path / "text.png", "text.png is no JPEG or PNG file"),
        (tmp_path / "absent.png", "absent.png cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
    ):
        ended = client("--model=robust", nobody, image, path)
        assert ended.code == 2
        assert said in ended.said
    for address in ("http://localhost:8501", "localhost:http", "localhost:99999"):
        ended = client("--model=robust", f"--server={address}", image)
        assert ended.code == 2
        assert "--server: expected host or host:port" in ended.said


def test_a_failure_is_one_sentence_and_a_status(tmp_path):
    image = tmp_path / "image.png"
    image.write_bytes(encoded(colour_images(1)[0][0], "PNG"))
    nobody = f"--server=localhost:{free_ports(1)[0]}"
    program = EXAMPLES / "serve_client.py"
    ended = forked.python(program, "--model=robust", nobody, image)
    assert ended.returncode == 1
    assert "serve_client.py: Nobody answers at localhost" in ended.stderr
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


def probing_words(digits, ports, protocol="grpc"):
    return [
        "--model=robust",
        "--probe",
        f"--protocol={protocol}",
        f"--server={address_of(ports, protocol)}",
        f"--keras_model={digits}",
        "--dataset=digits",
        "--epsilon=0.1",
        "--examples=64",
        "--queries=30",
    ]


@BOTH
def test_a_probe_of_the_right_model(deployment, client, digits, protocol):
    model = keras.models.load_model(digits)
    ports = deployment.serve(model).ports
    ended = client(*probing_words(digits, ports, protocol))
    assert ended.code == 0, ended.said
    assert "answers as the Keras model does" in ended.out
    rows = [line.split() for line in ended.out.splitlines()[1:6]]
    names = ["clean,", "clean,", "clean,", "pgd20,", "square"]
    assert [row[0] for row in rows] == names
    accuracies = [[float(word.rstrip("%")) for word in row[-3:-1]] for row in rows]
    assert all(ours == theirs for ours, theirs in accuracies)
    clean, pgd, square = accuracies[0][0], accuracies[3][0], accuracies[4][0]
    assert clean > 80
    assert pgd < square < clean


@pytest.mark.parametrize("spoilt", [False, True])
def test_the_program_probes_too(digits, spoilt, tmp_path):
    network = keras.models.load_model(digits).model
    served = other_weights(network) if spoilt else network
    path = Path(export_for_serving(served, tmp_path / "robust"))
    with stand_in_server.running(stand_in_server.Served(path, "robust")) as ports:
        words = [
            *("probe", "robust", digits, "digits", "--examples=32", "--queries=10"),
            f"--server={address_of(ports, 'grpc')}",
        ]
        if spoilt:
            said = program.fails(*words)
            assert "WARNING: not the model that was trained" in said
            assert "are these the same weights" in said
        else:
            said = program.typed(*words)
            assert "answers as the Keras model does" in said
            epsilon = keras.models.load_model(digits).epsilon
            assert f"epsilon={epsilon:.4g} on the [0, 1] scale" in said


def in_front(layer):
    def wrap(network):
        return keras.Sequential([keras.Input((8, 8, 1)), layer, network])

    return wrap


def other_weights(network):
    network.layers[-1].bias.assign_add(np.arange(10.0))
    return network


ROUNDING = keras.layers.Lambda(lambda x: keras.ops.round(x * 255) / 255)
DIVIDED = keras.layers.Lambda(lambda x: x / 255)
UPSIDE_DOWN = keras.layers.Lambda(lambda x: x[:, ::-1])
WRONG = {
    "scaled twice": (
        in_front(DIVIDED),
        {},
        "as the Keras model does for pixels divided by 255",
    ),
    "upside down": (
        in_front(UPSIDE_DOWN),
        {},
        "as the Keras model does for images upside down",
    ),
    "other weights": (other_weights, {}, "are these the same weights"),
    # As if the model took pixels of [0, 4]: what is below 1 is not refused.
    "a wider range": (
        lambda network: network,
        {"value_range": (0, 4)},
        "Float images agree, so the weights are the same",
    ),
    "a range apart": (
        lambda network: network,
        {"value_range": (0, 0.5)},
        "clean, float32: The server refused the request: Input `images` must hold "
        "finite pixels from 0 to 0.5",
    ),
    "rounding": (in_front(ROUNDING), {}, "round pixels"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_probe_of_a_wrong_model_says_what_is_wrong(deployment, client, digits, wrong):
    spoil, settings, said = WRONG[wrong]
    network = spoil(keras.models.load_model(digits).model)
    ports = deployment.serve(network, **settings).ports
    ended = client(*probing_words(digits, ports))
    assert ended.code == 1
    assert "WARNING: not the model that was trained" in ended.said
    assert said in ended.said


def test_a_probe_needs_a_model_and_its_data(client, digits, tmp_path):
    probe = ["--model=robust", "--probe"]
    for words, said in (
        ([], "--probe needs --keras_model"),
        ([f"--keras_model={tmp_path / 'none.keras'}"], "There is no model"),
        ([f"--keras_model={tmp_path}"], f"{tmp_path} is not the folder"),
        (
            [f"--keras_model={digits}", "--epsilon=0.1"],
            "The name of a data set is needed",
        ),
    ):
        ended = client(*probe, *words)
        assert ended.code == 2
        assert said in ended.said


def test_a_server_that_fails_amid_an_attack(client, digits, tmp_path):
    model = keras.models.load_model(digits)
    path = Path(export_for_serving(model, tmp_path / "robust"))
    # Clean images and PGD's take four requests.
    served = stand_in_server.Served(path, "robust", limit=10)
    with stand_in_server.running(served) as ports:
        ended = client(*probing_words(digits, ports))
    assert ended.code == 1
    assert ended.said.startswith("serve_client.py: ")
    assert "the queue is full" in ended.said


def test_half_precision_is_allowed_its_roundings():
    from keras_free_adv.serving.agreement import tolerance_of

    single = tolerance_of(colour_network())
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert single < 0.01 < tolerance_of(colour_network())


def test_files_of_images_that_vary_in_size_are_cropped_as_in_training(
    deployment, model
):
    from keras_free_adv.serving import probing
    from keras_free_adv.serving.from_model import served_classifier

    network = model.model
    asked = server(deployment.serve(network, image_size=8).ports, "grpc")
    images, _ = colour_images(16, seed=2)
    floats = (images / 255).astype("float32")
    settings = dict(class_names=None, value_range=None, from_logits=True)
    apart = {}
    for size in (8, None):
        classifier = served_classifier(network, image_size=size, **settings)
        for name, request, ours in probing.clean_requests(
            classifier, images, floats, classifier.probabilities
        ):
            theirs = probing.scores(asked, *request)
            apart[name, size] = np.abs(np.asarray(ours) - theirs).max()
    assert apart.pop(("clean, PNG files", None)) > 0.01
    assert max(apart.values()) < 1e-5
