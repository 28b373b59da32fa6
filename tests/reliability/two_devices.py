"""Runs `keras-free-adv` as on a machine with two devices: halves of the processor.

python -m tests.reliability.two_devices COMMAND ARGUMENTS
"""

import tensorflow as tf

from keras_free_adv.command_line.main import main

if __name__ == "__main__":
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    main()
