"""What is known of a pretrained model: how it was made, and how robust it is."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_free_adv.tables import html_table, markdown

# The pretrained models, each with its card: NAME.keras and NAME.json.
MODELS = Path(__file__).with_name("models")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """The card of a pretrained model.

    Attributes:
        name: name for `zoo.pretrained`.
        about: what it is, in a sentence.
        recipe: the settings of its training, as `Recipe.to_dict()` gives them.
        data: the images that it was trained on.
        seed: seed of the training.
        epsilon: radius of the ball that it was trained for, on the pixel scale; None
            for a natural model.
        norm: norm of the ball.
        value_range: lowest and highest pixel value.
        class_names: names of the classes, in the order of their numbers.
        parameters: how many parameters the model has.
        evaluated_on: the images behind the accuracies.
        accuracy: "natural", and each attack's name, to (share of the examples
            classified correctly, lower and upper end of its 95% interval, number of
            examples).
        attacks: each attack's name to its settings.
        commands: the commands that trained and evaluated it.
        versions: of the libraries that trained it.
        checksum: BLAKE2b of the file.
    """

    name: str
    about: str
    recipe: Mapping[str, Any]
    data: str
    seed: int
    epsilon: float | None
    norm: str
    value_range: tuple[float, float]
    class_names: tuple[str, ...]
    parameters: int
    evaluated_on: str
    accuracy: Mapping[str, tuple[float, float, float, int]]
    attacks: Mapping[str, Mapping[str, Any]]
    commands: tuple[str, ...]
    versions: Mapping[str, str]
    checksum: str

    def __str__(self) -> str:
        """The card as text."""
        rows = self._facts()
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name:<{width}}  {fact}" for name, fact in rows]
        lines += [f"  $ {command}" for command in self.commands]
        return "\n".join([f"{self.name}: {self.about}", *lines])

    def _repr_html_(self) -> str:
        """As notebooks show it."""
        return html_table(self._rows())

    def _repr_markdown_(self) -> str:
        return markdown(self._rows())

    def _rows(self) -> list[list[str]]:
        commands = [["command", command] for command in self.commands]
        return [[self.name, self.about], *self._facts(), *commands]

    def _facts(self) -> list[list[str]]:
        """What is known, a name and a fact each."""
        facts = [["trained on", f"{self.data}, seed {self.seed}"]]
        if self.epsilon is not None:
            low, high = self.value_range
            ball = f"{self.norm}, epsilon {self.epsilon:.4g}"
            facts.append(["against", f"{ball}, pixels in [{low:g}, {high:g}]"])
        facts.append(["parameters", f"{self.parameters:,}"])
        facts.append(["accuracy on", f"{self.evaluated_on}{self._attacked_at()}"])
        for attack, (share, low, high, examples) in self.accuracy.items():
            interval = f"({low:.1%} to {high:.1%}, {examples:,} images)"
            facts.append([attack, f"{share:6.1%}  {interval}"])
        return facts

    def _attacked_at(self) -> str:
        radii = {f"{each['epsilon']:.4g}" for each in self.attacks.values()}
        return f"; attacks with epsilon {', '.join(sorted(radii))}" if radii else ""

    def to_json(self) -> str:
        """The card as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """The card from `to_json()`."""
        read = json.loads(text)
        for name in ("value_range", "class_names", "commands"):
            read[name] = tuple(read[name])
        read["accuracy"] = {k: tuple(v) for k, v in read["accuracy"].items()}
        return cls(**read)
