"""Step 6: AutoAttack of the trained model, beside pyautoattack on the same weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

from gpu.beside_pytorch import check_imports
from gpu.record import Record
from gpu.sizes import Sizes
from gpu.step import Place, Step, table
from gpu.training import model_of

BENCHMARKS = Path(__file__).parent.parent
ROW, OURS, THEIRS = "linf/autoattack", "keras_free_adv", "pyautoattack"


def run(sizes: Sizes, place: Place, record: Record) -> None:
    """By compare_with_peers.py, which goes on where it was stopped."""
    check_imports(place.peers_python, "torch" if sizes.dry else THEIRS)
    model = model_of(place.folder)
    if not model.exists():
        raise RuntimeError(f"{model} is not there: the step `training` makes it.")
    folder = place.folder / "peers"
    located = [] if place.data_dir is None else [f"--data_dir={place.data_dir}"]
    subprocess.run(
        [
            *(sys.executable, "compare_with_peers.py", "--speed", "--rounds=1"),
            *("--only=autoattack", "--norms=linf", f"--libraries={THEIRS}"),
            *(f"--model={model.resolve()}", f"--data={place.data}", *located),
            *(f"--peers_python={place.peers_python}", f"--output={folder.resolve()}"),
            f"--peers_device={'cpu' if sizes.dry else 'cuda'}",
            f"--threads={os.cpu_count()}",
            f"--examples={sizes.examples}",
            f"--steps_scale={sizes.steps_scale}",
            f"--queries={sizes.queries}",
            f"--warmup_examples={min(sizes.examples, 128)}",
            f"--batch_size={sizes.batch_size if sizes.dry else 512}",
        ],
        cwd=BENCHMARKS,
        check=True,
    )
    results = json.loads((folder / "results.json").read_text())
    for side, result in results["speed"].get(ROW, {}).items():
        record.put(
            side, {"robust": result["robust"], "seconds": min(result["seconds"])}
        )


def page(record: Record) -> list[str]:
    """Verdicts and seconds."""
    rows = [["", "images", "robust, percent", "seconds"]]
    for side, found in record.found.items():
        verdicts = found["robust"]
        share = 100 * verdicts.count("1") / len(verdicts)
        seconds = f"{found['seconds']:.1f}"
        rows.append([side, f"{len(verdicts):,}", f"{share:.1f}", seconds])
    if not {OURS, THEIRS} <= set(record.found):
        return [*table(rows), "", "pyautoattack was not there to be compared with."]
    ours, theirs = record[OURS], record[THEIRS]
    pairs = zip(ours["robust"], theirs["robust"], strict=True)
    differ = sum(one != other for one, other in pairs)
    ratio = theirs["seconds"] / ours["seconds"]
    return [*table(rows), "", f"{differ} verdicts differ; {ratio:.2f} times as fast."]


STEP = Step("AutoAttack beside pyautoattack", run, page)
