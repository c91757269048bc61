"""The lines of configurations.def: the models that the trainers are built for, and how they are trained."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1]
SIZES = EXAMPLES.parent / "include" / "lnfree" / "core" / "config.hpp"


class Malformed(SystemExit):
    """Ends the program with an error message, since these files are part of it."""


def split(text):
    """The parts of a C++ list, split at commas outside quotes and brackets."""
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
    """A C++ value in Python; anything but a number or a truth value stays text."""
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
    """The entries of a file like configurations.def by macro: {name: [further arguments as text]}.

    Refuses lines that the preprocessor would read differently from the other readers, which work line by
    line.
    """

    ENTRY = re.compile(r"(?P<macro>[A-Z_]+)\((?P<name>[A-Za-z0-9_]+)(?:,\s*(?P<rest>.*))?\)(?:\s*//.*)?", re.ASCII)
    IGNORED = re.compile(r"\s*(?://.*)?|#(?:ifndef|undef) [A-Z_]+|#define [A-Z_]+\(\.\.\.\)|#endif", re.ASCII)

    def __init__(self, path):
        self.path, self.entries = path, {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if self.IGNORED.fullmatch(line):
                continue
            entry = self.ENTRY.fullmatch(line)
            if not entry:
                raise Malformed(f"{path}:{number}: an entry is one line NAME(name, ...), not: {line}")
            same = self.entries.setdefault(entry["macro"], {})
            if entry["name"] in same:
                raise Malformed(f"{path}:{number}: there is an entry {entry['macro']}({entry['name']}, ...) already")
            same[entry["name"]] = split(entry["rest"]) if entry["rest"] else []

    def __getitem__(self, macro):
        return self.entries.get(macro, {})


@dataclass(frozen=True)
class Configuration:
    """The norm, activation and label of a configuration."""

    label: str
    norm: str
    activation: str

    @classmethod
    def of(cls, name, *arguments):
        """Of the arguments in configurations.def."""
        if not 3 <= len(arguments) <= 5 or not re.fullmatch(r'"[^"]+"', arguments[0]):
            raise Malformed(f"{_PATH}: CONFIGURATION({name}, ...) needs a label in quotes, a norm and an activation")
        return cls(arguments[0].strip('"'), *arguments[1:3])

    def activations(self, layers):
        """The names of the activations of `layers` layers."""
        name, arguments = template(self.activation)
        if name != "Layerwise":
            return [name] * layers
        first, rest, *counts = arguments[0], arguments[2], arguments[1], *arguments[3:]
        for place, count in enumerate(counts):
            part = re.fullmatch(r"(?:shape\.layers\s*/\s*)?(\d+)", count)
            if not part:
                raise Malformed(f"the layers of {self.activation} are neither a number nor shape.layers / a number")
            counts[place] = int(part[1]) if count == part[1] else layers // int(part[1])
        period = sum(counts) if len(counts) > 1 else layers
        return [template(first if layer % period < counts[0] else rest)[0] for layer in range(layers)]

    def layers_by_activation(self, layers):
        """The number of layers with each activation, out of `layers`."""
        return Counter(self.activations(layers))

    @property
    def activation_name(self):
        """The activation in words, without parameters."""
        takes_turns = len(template(self.activation)[1]) > 3
        return (", in turn with " if takes_turns else ", then ").join(self.layers_by_activation(1000))

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
    """The sizes of a model, and how models of that size are trained; `context` is the longest window."""

    layers: int
    heads: int
    width: int
    ffn_width: int
    context: int
    training: dict

    @classmethod
    def of(cls, name, training, *sizes):
        """Of the arguments in configurations.def; `sizes` name a shape of the library, or are a DecoderConfig{...}."""
        if training not in TRAININGS:
            raise Malformed(f"{_PATH}: SHAPE({name}, {training}, ...) names no TRAINING")
        text = ", ".join(sizes)
        if "{" not in text:
            pattern = rf"^inline constexpr DecoderConfig {text}(\{{.*?\}});"
            found = re.search(pattern, SIZES.read_text(), re.DOTALL | re.MULTILINE)
            if not found:
                raise Malformed(f"{SIZES} has no shape {text}, which configurations.def names")
            text = found[1]
        fields = fields_of(split(text[text.index("{") + 1 : text.rindex("}")]))
        values = [fields.get(size) for size in ("layers", "heads", "width", "ffn_width", "context")]
        if not all(isinstance(value, int) for value in values):
            raise Malformed(f"the sizes of SHAPE({name}, ...) are not numbers: {text}")
        return cls(*values, TRAININGS[training])


_PATH = EXAMPLES / "configurations.def"
_DEFINITIONS = Definitions(_PATH)
CONFIGURATIONS = {name: Configuration.of(name, *rest) for name, rest in _DEFINITIONS["CONFIGURATION"].items()}
TRAININGS = {name: fields_of(rest) for name, rest in _DEFINITIONS["TRAINING"].items()}
RECIPES = {name: fields_of(rest) for name, rest in _DEFINITIONS["RECIPE"].items()}
SHAPES = {name: Shape.of(name, *rest) for name, rest in _DEFINITIONS["SHAPE"].items()}
# The configurations of the paper's main table, and the one to which changes in % refer.
PAPER_CONFIGS = tuple(name for first, rest in _DEFINITIONS["PAPER_TABLE"].items() for name in (first, *rest))
for _name in PAPER_CONFIGS:
    if _name not in CONFIGURATIONS:
        raise Malformed(f"{_PATH}: PAPER_TABLE names {_name}, which is not a CONFIGURATION")
BASELINE = PAPER_CONFIGS[0]
