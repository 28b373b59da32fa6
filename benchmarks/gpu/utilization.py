"""The share of the time in which the GPU computes."""

import subprocess
import tempfile
from types import TracebackType

MILLISECONDS = 100


class Utilization:
    """Asks the driver, ten times a second, while its `with` block runs.

    Attributes:
        percent: the mean, or None where no driver answers.
    """

    percent: float | None = None

    def __enter__(self) -> "Utilization":
        self._file = tempfile.TemporaryFile("w+")
        try:
            self._process: subprocess.Popen | None = subprocess.Popen(
                [
                    "nvidia-smi",
                    "--query-gpu=utilization.gpu",
                    "--format=csv,noheader,nounits",
                    f"--loop-ms={MILLISECONDS}",
                    "--id=0",
                ],
                stdout=self._file,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            self._process = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._file.seek(0)
            said = [line.strip() for line in self._file]
            values = [float(line) for line in said if line.isdigit()]
            if values:
                self.percent = sum(values) / len(values)
        self._file.close()
