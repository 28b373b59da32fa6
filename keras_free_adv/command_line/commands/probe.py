"""What is typed for `keras-free-adv probe`."""

from absl import flags

from keras_free_adv.command_line.command import Command
from keras_free_adv.command_line.commands.shared_flags import (
    MODEL,
    define_ball,
    define_value_range,
)


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "server",
        "localhost",
        "Host, or host:port; ports are 8500 and, of rest, 8501.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "protocol", "grpc", ["grpc", "rest"], "How to ask.", flag_values=values
    )
    flags.DEFINE_integer(
        "model_version",
        None,
        "Version of the model; the latest if unset.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_float(
        "timeout",
        10.0,
        "Seconds that a request may take.",
        lower_bound=0.001,
        flag_values=values,
    )
    define_ball(values)
    define_value_range(values)
    flags.DEFINE_string("split", None, "Of the data set.", flag_values=values)
    flags.DEFINE_string("data_dir", None, "Where TFDS keeps data.", flag_values=values)
    flags.DEFINE_integer(
        "image_size",
        None,
        "Of images that vary in size.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "examples", 200, "Images to send.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "queries",
        300,
        "Of the Square attack, for each image.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_float(
        "tolerance",
        None,
        "How far probabilities may be apart; 0.001 if unset, and 0.05 in half "
        "precision.",
        lower_bound=0.0,
        flag_values=values,
    )
    flags.DEFINE_integer("seed", 0, "Seed of the attacks.", flag_values=values)


COMMAND = Command(
    name="probe",
    summary="checks that a server is as robust as the model it serves",
    arguments=("NAME", "MODEL", "[DATA]"),
    about="Asks TensorFlow Serving for NAME, which should serve MODEL. Clean "
    "images are sent as floats, 8-bit pixels and files; adversarial ones are made "
    "on the Keras model, and by an attack that sees only the server's scores. The "
    "accuracies are printed beside Keras' own; it fails if they differ. "
    "Connections are not encrypted. It needs the extra `serving`.\n\n"
    f"{MODEL} DATA is the name of a data set.",
    examples=("keras-free-adv probe digits runs/digits_free4",),
    define=_define,
)
