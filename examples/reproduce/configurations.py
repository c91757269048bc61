"""The lines of configurations.def: the models that the trainers are built for, and how they are trained."""

import re
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1]
SIZES = EXAMPLES.parent / "include" / "lnfree" / "core" / "config.hpp"


def split(text):
    """The parts of a list in C++, at the commas that stand in no quotes or brackets."""
    parts, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == '"'
        depth += 0 if quoted else (character in "(<{[") - (character in ")>}]")
        if character == "," and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def value_of(text):
    """A value in C++ as Python has it; what is neither number nor truth value stays the text."""
    for read in ({"true": True, "false": False}.__getitem__, int, float):
        try:
            return read(text)
        except (KeyError, ValueError):
            pass
    return text


def fields_of(parts):
    """[".steps = 12", ".dropout = 0.1"] as {"steps": 12, "dropout": 0.1}."""
    return {name.strip().lstrip("."): value_of(value.strip()) for name, value in (part.split("=", 1) for part in parts)}


class Definitions:
    """The entries of a file like configurations.def by macro: {name: [further arguments, as they stand there]}."""

    def __init__(self, path):
        self.path, self.entries = path, {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            macro = re.match(r"[A-Z_]+(?=\()", line)
            if not macro:
                continue
            whole = re.fullmatch(r"[A-Z_]+\((\w+)(?:,\s*(.*))?\)(?:\s*//.*)?", line)
            if not whole:
                raise ValueError(f"{path}:{number}: an entry is one line NAME(name, ...), not: {line}")
            name, rest = whole.groups()
            if name in self.entries.setdefault(macro[0], {}):
                raise ValueError(f"{path}:{number}: there is an entry {macro[0]}({name}, ...) already")
            self.entries[macro[0]][name] = split(rest) if rest else []

    def __getitem__(self, macro):
        return self.entries.get(macro, {})


@dataclass(frozen=True)
class Configuration:
    """The norm, activation and label of a model's blocks."""

    label: str
    norm: str
    activation: str

    @classmethod
    def of(cls, label, norm, activation, *_observer):
        return cls(label.strip('"'), norm, activation)

    def layers_by_activation(self, layers):
        """How many of `layers` layers have which activation."""
        name, arguments = template(self.activation)
        if name != "Layerwise":
            return {name: layers}
        first, count, rest = arguments
        part = re.fullmatch(r"(?:shape\.layers\s*/\s*)?(\d+)", count)
        if not part:
            raise ValueError(f"the layers of {self.activation} are neither a number nor shape.layers / a number")
        count = int(part[1]) if count == part[1] else layers // int(part[1])
        return {template(first)[0]: count, template(rest)[0]: layers - count}

    @property
    def activation_name(self):
        """In words, without parameters."""
        return ", then ".join(self.layers_by_activation(1000))

    @property
    def learnable(self):
        """Whether slopes are learned."""
        return "LeakyLearnable" in self.layers_by_activation(1000)


def template(text):
    """"Layerwise<ReLU, 2, GELU>" as ("Layerwise", ["ReLU", "2", "GELU"])."""
    name, _, rest = text.partition("<")
    return name.rpartition("::")[2], split(rest.rpartition(">")[0]) if rest else []


@dataclass(frozen=True)
class Shape:
    """Sizes of a model, and the training of models of that size; `context` is the longest window it takes."""

    layers: int
    heads: int
    width: int
    ffn_width: int
    context: int
    training: dict

    @classmethod
    def of(cls, training, *sizes):
        """`sizes` name a shape of the library, or are a DecoderConfig{...}."""
        text = ", ".join(sizes)
        if "{" not in text:
            found = re.search(rf"^inline constexpr DecoderConfig {text}(\{{.*?\}});", SIZES.read_text(), re.DOTALL | re.MULTILINE)
            if not found:
                raise ValueError(f"{SIZES} has no shape {text}")
            text = found[1]
        fields = fields_of(split(text[text.index("{") + 1 : text.rindex("}")]))
        names = ("layers", "heads", "width", "ffn_width", "context")
        return cls(*(fields[name] for name in names), training)


_DEFINITIONS = Definitions(EXAMPLES / "configurations.def")
CONFIGURATIONS = {name: Configuration.of(*rest) for name, rest in _DEFINITIONS["CONFIGURATION"].items()}
TRAININGS = {name: fields_of(rest) for name, rest in _DEFINITIONS["TRAINING"].items()}
RECIPES = {name: fields_of(rest) for name, rest in _DEFINITIONS["RECIPE"].items()}
SHAPES = {name: Shape.of(TRAININGS[training], *sizes) for name, (training, *sizes) in _DEFINITIONS["SHAPE"].items()}
# The configurations of the paper's main table, and the one that changes in % refer to.
PAPER_CONFIGS = next((name, *rest) for name, rest in _DEFINITIONS["PAPER_TABLE"].items())
BASELINE = PAPER_CONFIGS[0]
