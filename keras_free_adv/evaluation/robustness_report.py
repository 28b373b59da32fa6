"""What an evaluation found, as numbers, a table, Markdown and JSON."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SCHEMA_VERSION = 1


@dataclass
class RobustnessReport:
    """The result of `evaluate_robustness`.

    Attributes:
        accuracy: "natural", then each attack's name, to the share of examples the
            model gets right (an example is robust to an attack only if every restart
            failed).
        robust: the same names to a boolean array, one entry per example.
        worst_case: the share of examples that no attack broke.
        seconds: the same names to wall-clock seconds.
        threat_models: each attack's name to its settings (norm, epsilon, steps, seed,
            how logits were found, ...).
        warnings: doubts about the numbers, each with what to do.
        examples: number of examples evaluated.
    """

    accuracy: dict[str, float]
    robust: dict[str, np.ndarray]
    worst_case: float
    seconds: dict[str, float]
    threat_models: dict[str, dict[str, Any]]
    warnings: list[str] = field(default_factory=list)

    @property
    def examples(self) -> int:
        """Number of examples evaluated."""
        return len(self.robust["natural"])

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(row[0]) for row in rows)
        lines = [f"{'':{width}}  accuracy   seconds"]
        lines += [
            f"{name:{width}}  {share:>8}  {time:>8}" for name, share, time in rows
        ]
        lines.append(f"({self.examples} examples)")
        lines += [f"Warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """The table in Markdown."""
        lines = ["| attack | accuracy | seconds |", "|---|---|---|"]
        lines += [
            f"| {name} | {share} | {time} |" for name, share, time in self._rows()
        ]
        lines += ["", f"{self.examples} examples."]
        lines += [f"\n**Warning:** {warning}" for warning in self.warnings]
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain Python values that JSON can hold."""
        return {
            "schema_version": SCHEMA_VERSION,
            "examples": self.examples,
            "accuracy": dict(self.accuracy),
            "worst_case": self.worst_case,
            "seconds": dict(self.seconds),
            "threat_models": self.threat_models,
            "warnings": list(self.warnings),
            "robust": {name: array.tolist() for name, array in self.robust.items()},
        }

    def to_json(self, **kwargs: Any) -> str:
        """`to_dict()` as JSON; `kwargs` go to `json.dumps`."""
        return json.dumps(self.to_dict(), **kwargs)

    def _rows(self) -> list[tuple[str, str, str]]:
        rows = [
            (name, f"{share:.2%}", f"{self.seconds[name]:.1f}")
            for name, share in self.accuracy.items()
        ]
        if len(self.accuracy) > 1:
            total = f"{sum(self.seconds.values()):.1f}"
            rows.append(("worst case", f"{self.worst_case:.2%}", total))
        return rows
