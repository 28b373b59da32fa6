"""What is typed for `keras-free-adv recipes`."""

from keras_free_adv.command_line.command import Command

COMMAND = Command(
    name="recipes",
    summary="lists the trainings that have a name, or shows one",
    arguments=("[NAME]",),
    about="Lists the recipes: trainings with all their settings, those of the "
    "paper's tables and small ones for a CPU. With a NAME it shows the settings.",
    examples=("keras-free-adv recipes", "keras-free-adv recipes digits_free8"),
)
