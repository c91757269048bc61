"""metrics.jsonl, as the trainers write it (docs/logs.md): read whole, or followed while it grows."""

import json
import math
import os

# How many bytes of the last line read are compared with the file, to notice that it was rewritten.
TAIL = 4096
ATTENTION = ("query", "key", "value")


def entry_of(line):
    """A line as {"kind": ..., "step": ..., ...}; None if it is not one, such as a line cut off by a crash."""
    try:
        entry = json.loads(line)
        entry["kind"], entry["step"] = str(entry["kind"]), int(entry["step"])
        return entry
    except (ValueError, KeyError, TypeError):
        return None


class Metrics:
    """Follows a metrics.jsonl that is being written. Only whole lines are read."""

    def __init__(self, path):
        self.path, self.position, self.tail = path, 0, b""

    def update(self):
        """(entries since the last call, whether they start over). A resumed trainer cuts the file back to its
        checkpoint; then the whole file is read again and replaces what was read before. A missing file has no
        entries."""
        try:
            with open(self.path, "rb") as file:
                anew = not self._continues(file)
                if anew:
                    self.position, self.tail = 0, b""
                file.seek(self.position)
                new = file.read()
        except FileNotFoundError:
            anew, new = self.position > 0, b""
            self.position, self.tail = 0, b""
        complete = new[: new.rfind(b"\n") + 1]
        self.position += len(complete)
        self.tail = (self.tail + complete)[-TAIL:]
        return [entry for entry in map(entry_of, complete.splitlines()) if entry], anew

    def _continues(self, file):
        """Whether the file still holds the last bytes read at the same place."""
        if os.fstat(file.fileno()).st_size < self.position:
            return False
        file.seek(self.position - len(self.tail))
        return file.read(len(self.tail)) == self.tail


def by_kind(entries):
    """{kind: {step: entry}}, steps in order. If a step was logged twice, the later entry is used."""
    kinds = {}
    for entry in entries:
        kinds.setdefault(entry["kind"], {})[entry["step"]] = entry
    return {kind: dict(sorted(of_step.items())) for kind, of_step in kinds.items()}


def by_step(entries):
    """[(step, {series: number})] in order of the steps, for programs that accept every step only once."""
    steps = {}
    for kind, of_step in by_kind(entries).items():
        for step, entry in of_step.items():
            steps.setdefault(step, {}).update(series(entry))
    return sorted(steps.items())


def _number(value):
    """null as NaN."""
    return math.nan if value is None else float(value)


def _fields(entry):
    """(name, field, value) for each field of an entry; for a field named like the kind, the name is just
    that."""
    for field, value in entry.items():
        if field not in ("kind", "step") and not isinstance(value, (str, bool, dict)):
            yield (entry["kind"] if field == entry["kind"] else f"{entry['kind']}/{field}"), field, value


def _label(what, index, count):
    """"head_03" of 12."""
    return f"{what}_{index:0{len(str(count - 1))}}"


def series(entry):
    """An entry as {series: number}: "train/loss", "stream/rms/layer_3", "entropy/head_entropy/layer_3/head_0",
    "weights/attn.c_attn/layer_3/query". Texts have none."""
    found = {}
    for name, field, value in _fields(entry):
        if not isinstance(value, list):
            found[name] = _number(value)
            continue
        for layer, inner in enumerate(value):
            # A list of one is for all layers, such as a shared slope.
            place = name if len(value) == 1 else f"{name}/{_label('layer', layer, len(value))}"
            if not isinstance(inner, list):
                found[place] = _number(inner)
                continue
            for index, number in enumerate(inner):
                part = ATTENTION[index] if field == "attn.c_attn" else _label("head", index, len(inner))
                found[f"{place}/{part}"] = _number(number)
    return found


def tables(entry):
    """An entry's numbers by layer and head, as {name: [finite numbers]}, for histograms."""
    return {
        name: [float(number) for inner in value for number in inner if number is not None]
        for name, field, value in _fields(entry)
        if isinstance(value, list) and value and isinstance(value[0], list) and field != "attn.c_attn"
    }
