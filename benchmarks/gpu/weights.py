"""The weights of a model in half precision, in files small enough to be sent."""

from pathlib import Path

import keras
import numpy as np

from keras_free_adv import files

LARGEST = 15_000_000  # bytes of a file
PIECE = "weights-{number}-of-{count}.npz"


def write_pieces(
    model: keras.Model, folder: Path, largest: int = LARGEST
) -> list[Path]:
    """Writes the weights, kernels in float16 and vectors in float32.

    Vectors, those of batch norm among them, are small, and can have values that half
    precision has not.
    """
    pieces: list[dict[str, np.ndarray]] = [{}]
    room = largest
    for number, array in enumerate(model.get_weights()):
        stored = array.astype("float16") if array.ndim > 1 else array
        if stored.nbytes > room and pieces[-1]:
            pieces.append({})
            room = largest
        pieces[-1][str(number)] = stored
        room -= stored.nbytes
    paths = []
    for number, piece in enumerate(pieces, 1):
        path = folder / PIECE.format(number=number, count=len(pieces))
        with files.atomic_write(path) as beside:
            np.savez(beside, **piece)
        paths.append(path)
    return paths


def read_pieces(model: keras.Model, folder: Path) -> None:
    """Gives a model of the same layers the weights of a folder.

    Raises:
        FileNotFoundError: pieces are missing.
    """
    arrays: dict[str, np.ndarray] = {}
    paths = sorted(folder.glob(PIECE.format(number="*", count="*")))
    count = int(paths[0].stem.split("-")[-1]) if paths else 0
    if not paths or len(paths) != count:
        raise FileNotFoundError(
            f"{folder} holds {len(paths)} of {count or 'the'} pieces of weights."
        )
    for path in paths:
        with np.load(path, allow_pickle=False) as piece:
            arrays.update(piece)
    ordered = [arrays[str(number)] for number in range(len(arrays))]
    model.set_weights([array.astype("float32") for array in ordered])
