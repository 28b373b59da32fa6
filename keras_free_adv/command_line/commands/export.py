"""What is typed for `keras-free-adv export`."""

from absl import flags

from keras_free_adv.command_line.command import Command
from keras_free_adv.command_line.commands.shared_flags import (
    MODEL,
    define_value_range,
)


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_integer(
        "version",
        None,
        "Of the artifact; the next one if unset.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "report",
        None,
        "JSON of evaluate, to go into the artifact; the newest of a run if unset.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "data",
        None,
        "Name of a data set, for class names, where the model does not know them.",
        flag_values=values,
    )
    flags.DEFINE_string("split", None, "A split of it.", flag_values=values)
    flags.DEFINE_string("data_dir", None, "Where TFDS keeps it.", flag_values=values)
    define_value_range(values)
    flags.DEFINE_integer(
        "image_size",
        None,
        "To which image files are cropped; that of the data or model if unset.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "from_logits",
        "auto",
        ["auto", "true", "false"],
        "Whether the model returns logits.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "predicts",
        "auto",
        ["auto", "class", "labels"],
        "One class, or several labels.",
        flag_values=values,
    )


COMMAND = Command(
    name="export",
    summary="publishes a model for TensorFlow Serving, or for phones",
    arguments=("MODEL", "OUTPUT"),
    about="Makes a new version under the folder OUTPUT, named as the server calls "
    "the model; a running server finds it by itself. An OUTPUT that ends with "
    ".tflite is a file for LiteRT. The class names of a run, its recipe and its "
    "newest report go into the artifact.\n\n"
    f"{MODEL}",
    examples=(
        "keras-free-adv export runs/digits_free4 served/digits",
        "keras-free-adv export my.keras my.tflite",
    ),
    define=_define,
    interrupted="Nothing was published.",
)
