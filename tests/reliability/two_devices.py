"""Runs a program as on a machine with two devices: two halves of the processor.

python -m tests.reliability.two_devices PROGRAM ARGUMENTS
"""

import runpy
import sys
from pathlib import Path

import tensorflow as tf

if __name__ == "__main__":
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
