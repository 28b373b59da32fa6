"""All that a user can type: the commands, their arguments and flags."""

from absl import flags

from keras_free_adv.command_line.command import Command

ATTACKS = (
    *("fgsm", "pgd20", "pgd100", "cw100", "pgd20x10", "pgd50x10"),
    *("apgd_ce", "apgd_dlr", "apgd_t", "fab_t", "square"),
    *("autoattack", "autoattack_plus", "autoattack_rand"),
)

_MODEL = (
    "MODEL is a .keras file, the folder of a run of `train`, or the name of a "
    "pretrained model, such as digits_free."
)
_DATA = (
    "DATA is a folder with a subfolder of images for each class (JPEG, PNG, WebP, BMP "
    "or GIF, of any size); an .npz file with images and labels; the name of a data set "
    "(digits, cifar10_sample, or any of TensorFlow Datasets); or module:function, "
    "which returns images and labels, or a dataset of them, on the scale of the "
    "model's pixels."
)


def _define_data(values: flags.FlagValues, *, trains: bool = False) -> None:
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


def _define_model(values: flags.FlagValues) -> None:
    flags.DEFINE_list(
        "value_range",
        None,
        "LOW,HIGH: the range of the model's pixels; what the model shows, else 0,1.",
        flag_values=values,
    )


def _define_ball(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "epsilon",
        None,
        "How far a pixel may change, as a share of the pixels' range, whatever that "
        "is: 8/255. What the model was trained for, if that is known.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "norm", None, ["linf", "l2"], "Norm of the change.", flag_values=values
    )


def _define_verbose(values: flags.FlagValues) -> None:
    flags.DEFINE_enum(
        "verbose", "auto", ["auto", "0", "1", "2"], "Progress.", flag_values=values
    )


def _define_demo(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "output", "robustness-demo.html", "The page.", flag_values=values
    )
    flags.DEFINE_bool("open", True, "Open the page in a browser.", flag_values=values)
    flags.DEFINE_string("epsilon", "8/255", "As of evaluate.", flag_values=values)


def _define_evaluate(values: flags.FlagValues) -> None:
    _define_ball(values)
    flags.DEFINE_list(
        "attacks",
        "standard",
        "With commas between: standard (pgd20 and autoattack), paper (the columns of "
        f"the paper's table), or any of {', '.join(ATTACKS)}.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "examples",
        1000,
        "Images to attack: the first, or of a folder some of each class in turn.",
        lower_bound=1,
        flag_values=values,
    )
    _define_data(values)
    _define_model(values)
    flags.DEFINE_string(
        "output",
        None,
        "The report's page, NAME.html, with NAME.json and NAME.md beside it; beside "
        "the model, if unset.",
        flag_values=values,
    )
    flags.DEFINE_bool("open", False, "Open the page in a browser.", flag_values=values)
    _define_verbose(values)


def _define_train(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "recipe", None, "The training; `recipes` lists them.", flag_values=values
    )
    flags.DEFINE_multi_string(
        "set",
        [],
        "KEY=VALUE: changes a setting of the recipe; may be repeated.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "show", False, "Print the settings, and stop.", flag_values=values
    )
    flags.DEFINE_string(
        "weights",
        None,
        "MODEL: train this network further, and not the recipe's. For other classes it "
        "gets a new last layer.",
        flag_values=values,
    )
    _define_data(values, trains=True)
    flags.DEFINE_bool(
        "deterministic",
        False,
        "Deterministic operations: repeatable bit for bit on a GPU too; slower.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "output",
        None,
        "Folder of the run; if unset runs/RECIPE, with -changed, DATA and -seedN where "
        "so.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "strategy",
        "single",
        ["single", "mirrored", "multi_worker"],
        "One device, all GPUs of this machine, or all machines of TF_CONFIG.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "monitor_every",
        0,
        "PGD-20 each so many epochs; 0 for never.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "monitor_examples",
        500,
        "Test images of --monitor_every.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "test_examples",
        1000,
        "Test images that are attacked in the end; 0 for none.",
        lower_bound=0,
        flag_values=values,
    )
    _define_verbose(values)


def _define_compare(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "minutes", "10", "Of training, for each method.", flag_values=values
    )
    flags.DEFINE_list(
        "methods",
        "natural,free,fgsm_rs,pgd7",
        "With commas between: natural, free (m=8; free4 for m=4), fgsm_rs, pgd7, "
        "trades.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "recipe",
        "photos",
        "Whose network and optimizer are used; `recipes` lists them.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "set",
        [],
        "KEY=VALUE: changes a setting of the recipe; may be repeated.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "weights",
        None,
        "MODEL: the network to train further, and not the recipe's.",
        flag_values=values,
    )
    _define_ball(values)
    flags.DEFINE_list(
        "attacks", "standard", "As of `evaluate`, in the end.", flag_values=values
    )
    flags.DEFINE_integer(
        "examples", 1000, "Images of TEST to attack.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "epochs",
        10,
        "Parts of a training; after each there is a backup and a point of the curve.",
        lower_bound=1,
        flag_values=values,
    )
    _define_data(values, trains=True)
    flags.DEFINE_string(
        "test_split", "test", "Of a data set or an .npz.", flag_values=values
    )
    flags.DEFINE_string(
        "output", None, "Folder; runs/compare-TRAIN if unset.", flag_values=values
    )
    flags.DEFINE_bool("open", False, "Open the page in a browser.", flag_values=values)
    _define_verbose(values)


def _define_export(values: flags.FlagValues) -> None:
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
    _define_model(values)
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


def _define_probe(values: flags.FlagValues) -> None:
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
    _define_ball(values)
    _define_model(values)
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


def _define_recipes(values: flags.FlagValues) -> None:
    del values


_COMMANDS = (
    Command(
        name="demo",
        summary="attacks a natural and a robust model on photographs",
        arguments=(),
        about="Attacks two pretrained models on 100 photographs that are in this "
        "package, prints what they withstand, and writes a page with pictures. It "
        "needs no internet connection, and less than a minute.",
        examples=("keras-free-adv demo",),
        define=_define_demo,
        interrupted="Nothing was written.",
    ),
    Command(
        name="evaluate",
        summary="measures how robust a model is on your images",
        arguments=("MODEL", "[DATA]"),
        about="Attacks a model, prints its accuracy under each attack, and writes a "
        "page that says what it means.\n\n"
        f"{_MODEL}\n\n{_DATA}",
        examples=(
            "keras-free-adv evaluate my.keras photos/test --epsilon=8/255",
            "keras-free-adv evaluate digits_free digits --attacks=pgd20",
            "keras-free-adv evaluate runs/digits_free8 --attacks=autoattack",
        ),
        define=_define_evaluate,
        interrupted="The same command goes on after the last attack that was finished.",
    ),
    Command(
        name="train",
        summary="trains a robust model, on your images or by a recipe of the paper",
        arguments=("[DATA]",),
        about="Trains, and measures the robustness. The folder of the run holds "
        "settings.json (all settings and versions), history.json, model.keras (plain "
        "Keras, float32), and of a data set with a test split the report. A run that "
        "was interrupted, even killed, goes on when the same command is given "
        "again.\n\n"
        f"Without DATA the recipe's is loaded. {_DATA}\n\n"
        "Keras' backend is that of KERAS_BACKEND; --strategy is for TensorFlow.",
        examples=(
            "keras-free-adv train photos/train --recipe=photos",
            "keras-free-adv train photos/train --recipe=photos --weights=my.keras",
            "keras-free-adv train --recipe=digits_free8",
            "keras-free-adv train --recipe=cifar10_small_free8 --set replays=4",
        ),
        define=_define_train,
        interrupted="The same command goes on after the last epoch that was finished.",
    ),
    Command(
        name="compare",
        summary="finds out which training makes your network most robust in the time",
        arguments=("TRAIN", "[TEST]"),
        about="Trains a network naturally, by Free training, by FGSM-RS and by 7-PGD "
        "for the same time each: an update of each is timed first, and how many fit "
        "is written down. Then all are attacked. It prints a table with paired tests, "
        "and writes a page. Interrupted, it goes on when the same command is given "
        "again.\n\n"
        "TRAIN and TEST are as DATA of `train` and `evaluate`; of a data set TEST is "
        "its test split.\n\n"
        f"{_DATA}",
        examples=(
            "keras-free-adv compare photos/train photos/test --minutes=20",
            "keras-free-adv compare photos/train photos/test --weights=my.keras",
            "keras-free-adv compare digits --recipe=digits_free8 --minutes=0.5",
        ),
        define=_define_compare,
        interrupted="The same command goes on after the last epoch that was finished.",
    ),
    Command(
        name="export",
        summary="publishes a model for TensorFlow Serving, or for phones",
        arguments=("MODEL", "OUTPUT"),
        about="Makes a new version under the folder OUTPUT, named as the server calls "
        "the model; a running server finds it by itself. An OUTPUT that ends with "
        ".tflite is a file for LiteRT. The class names of a run, its recipe and its "
        "newest report go into the artifact.\n\n"
        f"{_MODEL}",
        examples=(
            "keras-free-adv export runs/digits_free4 served/digits",
            "keras-free-adv export my.keras my.tflite",
        ),
        define=_define_export,
        interrupted="Nothing was published.",
    ),
    Command(
        name="probe",
        summary="checks that a server is as robust as the model it serves",
        arguments=("NAME", "MODEL", "[DATA]"),
        about="Asks TensorFlow Serving for NAME, which should serve MODEL. Clean "
        "images are sent as floats, 8-bit pixels and files; adversarial ones are made "
        "on the Keras model, and by an attack that sees only the server's scores. The "
        "accuracies are printed beside Keras' own; it fails if they differ. "
        "Connections are not encrypted. It needs the extra `serving`.\n\n"
        f"{_MODEL} DATA is the name of a data set.",
        examples=("keras-free-adv probe digits runs/digits_free4",),
        define=_define_probe,
    ),
    Command(
        name="recipes",
        summary="lists the trainings that have a name, or shows one",
        arguments=("[NAME]",),
        about="Lists the recipes: trainings with all their settings, those of the "
        "paper's tables and small ones for a CPU. With a NAME it shows the settings.",
        examples=("keras-free-adv recipes", "keras-free-adv recipes digits_free8"),
        define=_define_recipes,
    ),
)

COMMANDS = {command.name: command for command in _COMMANDS}
