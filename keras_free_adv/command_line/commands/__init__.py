"""All that a user can type: a file for each command, with its arguments and flags.

Nothing heavy is imported here: `--help` is quick. What a command does is in the module
of its name beside this folder.
"""

from keras_free_adv.command_line.commands import (
    compare,
    demo,
    evaluate,
    export,
    probe,
    recipes,
    train,
)

COMMANDS = {
    module.COMMAND.name: module.COMMAND
    for module in (demo, evaluate, train, compare, export, probe, recipes)
}
