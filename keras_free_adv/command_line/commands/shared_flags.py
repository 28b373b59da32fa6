"""What several commands take: a model, data, the ball of an attack."""

from absl import flags

MODEL = (
    "MODEL is a .keras file, the folder of a run of `train`, or the name of a "
    "pretrained model, such as digits_free."
)
DATA = (
    "DATA is a folder with a subfolder of images for each class (JPEG, PNG, WebP, BMP "
    "or GIF, of any size); an .npz file with images and labels; the name of a data set "
    "(digits, cifar10_sample, or any of TensorFlow Datasets); or module:function, "
    "which returns images and labels, or a dataset of them, on the scale of the "
    "model's pixels."
)


def define_data(values: flags.FlagValues, *, trains: bool = False) -> None:
    """Which images, in which form."""
    flags.DEFINE_string(
        "split", None, "Of a data set or an .npz: train, test, ...", flag_values=values
    )
    flags.DEFINE_string("data_dir", None, "Where TFDS keeps data.", flag_values=values)
    flags.DEFINE_bool(
        "crop",
        False,
        "Cut images of another shape to that of the model, instead of squeezing them.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "image_size",
        None,
        "Height and width of the images, for a model that takes any.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_list(
        "pixels",
        None,
        "LOW,HIGH: the range of float images in an .npz, where it is not 0,1.",
        flag_values=values,
    )
    if not trains:  # there the recipe says it
        flags.DEFINE_integer(
            "batch_size", 128, "Images at a time.", lower_bound=1, flag_values=values
        )
    flags.DEFINE_integer("seed", 0, "Of all that is random.", flag_values=values)


def define_value_range(values: flags.FlagValues) -> None:
    """The range of the model's pixels."""
    flags.DEFINE_list(
        "value_range",
        None,
        "LOW,HIGH: the range of the model's pixels; what the model shows, else 0,1.",
        flag_values=values,
    )


def define_ball(values: flags.FlagValues) -> None:
    """How far an attack may go."""
    flags.DEFINE_string(
        "epsilon",
        None,
        "How far an attack may change a pixel, as a share of the pixels' range: 8/255 "
        "is 8 of 255 levels, 0.1 a tenth. If unset: what the model was trained for, "
        "where that is known.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "norm",
        None,
        ["linf", "l2"],
        "What epsilon limits: the change of each pixel (linf, the default), or the "
        "length of the whole change (l2).",
        flag_values=values,
    )


def define_verbose(values: flags.FlagValues) -> None:
    """Whether progress is shown."""
    flags.DEFINE_enum(
        "verbose", "auto", ["auto", "0", "1", "2"], "Progress.", flag_values=values
    )
