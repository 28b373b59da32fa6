"""The finished stages of an evaluation, in a file from which it can resume."""

import base64
import binascii
import json
import math
import pathlib
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_free_adv.attacks.half_precision import FLOAT32
from keras_free_adv.files import write_text

SCHEMA_VERSION = 2

# Rounding may change the predictions of this share of the examples from one process to
# the next; another model changes more.
CHANGED_BY_ROUNDING = 0.001


@dataclass
class Stage:
    """The result of one attack, or of one part of an ensemble.

    Attributes:
        standing: whether each example survives, `[N]`, bool; for a model that predicts
            several labels, whether each label does, `[N, L]`.
        seconds: wall-clock seconds.
        forward: number of examples in forward passes, each pass counted.
        backward: the same for backward passes.
        classes: the classes that are predicted after it, `[N]`; None for a model that
            predicts several labels. See `PredictedClasses`.
        images: the first images as it left them; None of several labels, or in a file
            of an earlier version.
        refuted: claims of a search in half precision that the model refuted.
    """

    standing: np.ndarray
    seconds: float
    forward: int
    backward: int
    classes: np.ndarray | None = None
    images: np.ndarray | None = None
    refuted: int = 0


class FinishedStages:
    """Saves finished stages, and finds them after an interruption.

    Args:
        path: a JSON file, created with the first stage; None saves nothing.
        model: identifies the model.
        data: identifies the examples and their batches.
        search: the dtype that attacks search in.
        natural: what the model gets right without an attack, as in `Stage.standing`.
        natural_classes: what it predicts then, as in `Stage.classes`.
        random: whether the model draws random numbers, so that `natural` may differ.
        writes: whether this process writes the file; on many workers one does.

    Attributes:
        natural: what the model got right when the file was created, on which its stages
            are based; without a file as passed.
        natural_classes: likewise.

    Raises:
        ValueError: the file is damaged, or of another model, other data or another
            search.
    """

    def __init__(
        self,
        path: Any,
        *,
        model: dict[str, Any],
        data: dict[str, Any],
        search: str = FLOAT32,
        natural: np.ndarray,
        natural_classes: np.ndarray | None = None,
        random: bool = False,
        writes: bool = True,
    ) -> None:
        self._path = None if path is None else pathlib.Path(path)
        self._writes = writes
        # Compared in this order: with other data, the rest differs as well.
        self._header = {"schema_version": SCHEMA_VERSION, "data": data, "model": model}
        self._search = search
        self._stages: dict[str, Stage] = {}
        self.natural = natural
        self.natural_classes = natural_classes
        if self._path is not None and self._path.exists():
            self._read(self._path, random)

    @property
    def checksum(self) -> int:
        """The checksum of all finished stages."""
        stages = {key: _to_bits(stage.standing) for key, stage in self._stages.items()}
        everything = [_to_bits(self.natural), sorted(stages.items())]
        return zlib.crc32(json.dumps(everything).encode())

    def find(self, settings: dict[str, Any]) -> Stage | None:
        """The finished stage of an attack with these settings, or None."""
        return self._stages.get(_key(settings))

    def add(self, settings: dict[str, Any], stage: Stage) -> None:
        """Adds a stage, and replaces the file by one with it."""
        self._stages[_key(settings)] = stage
        if self._path is not None and self._writes:
            stages = {key: _to_dict(stage) for key, stage in self._stages.items()}
            everything = {
                **self._header,
                "search_dtype": self._search,
                "natural": _to_bits(self.natural),
                "natural_classes": _to_list(self.natural_classes),
                "stages": stages,
            }
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, json.dumps(everything))

    def _read(self, path: pathlib.Path, random: bool) -> None:
        try:
            read = json.loads(path.read_text())
            self._check_header(path, read)
            natural = _from_bits(read["natural"], self.natural.shape)
            classes = _to_classes(read.get("natural_classes"), natural.shape)
            self._stages = {
                key: _from_dict(stage, natural.shape)
                for key, stage in read["stages"].items()
            }
        except _DAMAGED as error:
            raise ValueError(
                f"Argument `resume` names a file that is no interrupted evaluation: "
                f"{path} ({type(error).__name__}: {error}). Delete it, or pass another "
                "path."
            ) from error
        self._check_natural(path, natural, random)
        self.natural, self.natural_classes = natural, classes

    def _check_header(self, path: pathlib.Path, read: dict[str, Any]) -> None:
        for part, mine in self._header.items():
            if read[part] != mine:
                its, mine, other = _differences(read[part], mine)
                raise ValueError(
                    f"Argument `resume` names an evaluation of another {part}{other}: "
                    f"{path} has {its!r}, now it is {mine!r}. {_REMEDY}"
                )

        # Files of earlier versions do not say it.
        its_search = read.get("search_dtype", FLOAT32)
        if its_search != self._search:
            raise ValueError(
                "Argument `resume` names an evaluation with another search: "
                f"{path} has search_dtype={its_search!r}, now it is "
                f"{self._search!r}. {_REMEDY}"
            )

    def _check_natural(
        self, path: pathlib.Path, natural: np.ndarray, random: bool
    ) -> None:
        changed = int((natural != self.natural).sum())
        if not random and changed > CHANGED_BY_ROUNDING * natural.size:
            raise ValueError(
                "Argument `resume` names an evaluation of another model (other "
                f"predictions): without an attack, {changed} of {natural.size} that "
                f"were right in {path} are wrong now, or the reverse. {_REMEDY}"
            )


# Errors of reading a file that is damaged, or of another program.
_DAMAGED = (
    KeyError,
    TypeError,
    AttributeError,
    json.JSONDecodeError,
    UnicodeDecodeError,
    binascii.Error,
    zlib.error,
)
_REMEDY = "Pass another path, or delete the file to begin anew."


def check_path(path: Any) -> None:
    """Raises if `resume` cannot be the path of a file."""
    try:
        folder = pathlib.Path(path).is_dir()
    except TypeError:
        raise TypeError(
            f"Argument `resume` must be the path of a file, or None. Received: "
            f"resume={path!r}."
        ) from None
    if folder:
        raise ValueError(
            "Argument `resume` must be the path of a file. Received: "
            f"resume={str(path)!r}, which is a folder. Pass a file in it, such as "
            f"{str(pathlib.Path(path) / 'evaluation.json')!r}."
        )


def _differences(its: Any, mine: Any) -> tuple[Any, Any, str]:
    """The entries that differ in a part of the header, and their names in brackets."""
    if not isinstance(its, dict) or not isinstance(mine, dict):
        return its, mine, ""
    names = [name for name in {**its, **mine} if its.get(name) != mine.get(name)]
    return (
        {name: its.get(name) for name in names},
        {name: mine.get(name) for name in names},
        f" (other {', '.join(names)})",
    )


def _to_dict(stage: Stage) -> dict[str, Any]:
    return {
        **vars(stage),
        "standing": _to_bits(stage.standing),
        "classes": _to_list(stage.classes),
        "images": None if stage.images is None else _packed(stage.images),
    }


def _from_dict(read: dict[str, Any], shape: tuple[int, ...]) -> Stage:
    standing = _from_bits(read["standing"], shape)
    classes = _to_classes(read.get("classes"), shape)
    images = read.get("images")
    return Stage(
        **{
            **read,
            "standing": standing,
            "classes": classes,
            "images": None if images is None else _unpacked(images),
        }
    )


def _packed(images: np.ndarray) -> dict[str, Any]:
    """Images, float32, as text and their shape."""
    pixels = zlib.compress(np.ascontiguousarray(images, "<f4").tobytes())
    return {"shape": images.shape, "pixels": base64.b64encode(pixels).decode()}


def _unpacked(read: dict[str, Any]) -> np.ndarray:
    pixels = zlib.decompress(base64.b64decode(read["pixels"], validate=True))
    if len(pixels) != 4 * math.prod(read["shape"]):
        raise TypeError(f"{len(pixels)} bytes for images of {read['shape']}")
    images = np.frombuffer(pixels, "<f4").reshape(read["shape"])
    return images.astype("float32")


def _to_list(classes: np.ndarray | None) -> list[int] | None:
    return None if classes is None else classes.tolist()


def _to_classes(read: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    if read is None:
        return None
    classes = np.array(read, int)
    if classes.shape != shape:
        raise TypeError(f"{len(classes)} classes of {shape[0]} examples")
    return classes


def _to_bits(standing: np.ndarray) -> str:
    return "".join("1" if survives else "0" for survives in standing.flat)


def _from_bits(bits: str, shape: tuple[int, ...]) -> np.ndarray:
    if len(bits) != math.prod(shape) or set(bits) - {"0", "1"}:
        raise TypeError(f"{bits[:20]!r} must be {math.prod(shape)} times 0 or 1")
    return np.array([bit == "1" for bit in bits], bool).reshape(shape)


def _key(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
