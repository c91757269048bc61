"""Checks the documents against the programs.

    check_docs.py ROOT

In README.md and docs/*.md a C++ block under a line such as <!-- examples/custom_norm.cpp --> must be in that
file verbatim; the README's must be examples/quickstart.cpp from the first line to the last. The README and
docs/adding-*.md and docs/change.md may hold no C++ that is not checked in this way. Links to files of the
repository must exist.

In docs/coming-from.md every name in the last column of a table must exist in the sources.

The documents' tables of configurations, shapes, recipes, experiments and scales must have a row for each one
in the programs, and no other; any configuration that is named must exist.
"""

import re
import sys
from pathlib import Path

BLOCK = re.compile(r"(?:^<!-- (?P<source>\S+) -->\n)?^```cpp\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<path>[^)#\s]+)(?:#[^)\s]*)?\)")
QUICKSTART = "examples/quickstart.cpp"
MUST_SHOW = {
    "README.md": QUICKSTART,
    "docs/adding-an-activation.md": "examples/custom_activation.cpp",
    "docs/adding-a-norm.md": "examples/custom_norm.cpp",
    "docs/adding-an-observer.md": "examples/custom_observer.cpp",
    "docs/change.md": "examples/change.cpp",
}


def faults_of(root, document):
    text = (root / document).read_text()
    shown = set()
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        source, code = block["source"], block["code"]
        if source is None:
            if document in MUST_SHOW:
                yield f"{document}:{line}: a C++ block that names no example file"
            continue
        shown.add(source)
        if not (root / source).is_file():
            yield f"{document}:{line}: there is no file {source}"
            continue
        program = (root / source).read_text()
        if source == QUICKSTART and code != program:
            yield f"{document}:{line}: the block is not the whole of {source}"
        elif code not in program:
            yield f"{document}:{line}: the block does not stand like this in {source}"
    if document in MUST_SHOW and MUST_SHOW[document] not in shown:
        yield f"{document}: no block shows {MUST_SHOW[document]}"
    for link in LINK.finditer(text):
        path = link["path"]
        if "://" not in path and not ((root / document).parent / path).exists():
            line = text.count("\n", 0, link.start()) + 1
            yield f"{document}:{line}: the link leads to {path}, which is not there"


def lists_of(root):
    """(document, head of the first column, {name: the rest of its row, or None where that may be any}) of each table."""
    sys.path.insert(0, str(root / "examples" / "reproduce"))
    from configurations import CONFIGURATIONS, RECIPES, SHAPES
    from experiments import EXPERIMENTS, GROUPS
    from scales import SCALES

    rows = {name: f"{each.label} | `{each.norm}` | `{each.activation}`" for name, each in CONFIGURATIONS.items()}
    reproducing = "docs/reproducing-the-paper.md"
    return [
        ("docs/training.md", "`<configuration>`", rows),
        ("docs/training.md", "`<shape>`", dict.fromkeys(SHAPES)),
        (reproducing, "`--recipe`", dict.fromkeys(RECIPES)),
        (reproducing, "`--experiment`", dict.fromkeys([*EXPERIMENTS, *GROUPS])),
        (reproducing, "`--scale`", dict.fromkeys(SCALES)),
    ]


def faults_of_table(root, document, head, expected):
    """The wrong and missing rows of a table."""
    text = (root / document).read_text()
    table = re.search(rf"^\| {re.escape(head)} \|.*\n\|[-:| ]+\n(?P<rows>(?:\|.*\n)+)", text, re.MULTILINE)
    if not table:
        yield f"{document}: there is no table whose first column is {head}"
        return
    found = {}
    for row in table["rows"].splitlines():
        name, rest = re.fullmatch(r"\| (.*?) \| (.*) \|", row).groups()
        found.update(dict.fromkeys(re.findall(r"`(\w+)`", name), rest))
    for name, rest in expected.items():
        if name not in found or rest not in (None, found[name]):
            yield f"{document}: the table of {head} needs a row | `{name}` | {rest or '...'} |"
    for name in found.keys() - expected.keys():
        yield f"{document}: the table of {head} has a row {name}, which no program knows"


def faults_of_names(root):
    """Names of lnfree that no source has, in the page that compares them with other programs."""
    document = "docs/coming-from.md"
    sources = [p for folder in ("include", "examples") for p in (root / folder).rglob("*") if p.is_file()]
    words = set(re.findall(r"\w+", "\n".join(p.read_text(errors="ignore") for p in sources)))
    # Names of files, and of what the reader writes.
    words |= {"model", "safetensors", "config", "json", "train", "val", "bin", "YourObserver", "B", "T", "lr", "n", "l", "h"}
    for number, line in enumerate((root / document).read_text().splitlines(), 1):
        if not line.startswith("| ") or line.endswith("| lnfree |"):
            continue
        for code in re.findall(r"`([^`]+)`", line.split(" | ")[-1]):
            for name in re.findall(r"[A-Za-z][\w-]*", re.sub(r"\{l\}", "", code)):
                if name not in words and name.replace("-", "_") not in words and not name.startswith("train_"):
                    yield f"{document}:{number}: there is no {name} in lnfree"


def main():
    root = Path(sys.argv[1])
    documents = ["README.md", *sorted(str(p.relative_to(root)) for p in (root / "docs").glob("*.md"))]
    faults = [f"{name}: is missing" for name in MUST_SHOW if name not in documents]
    for document in documents:
        faults += faults_of(root, document)
    faults += faults_of_names(root)
    lists = lists_of(root)
    for each in lists:
        faults += faults_of_table(root, *each)
    configurations = lists[0][2]
    for document in documents:
        for name in sorted(set(re.findall(r"\bsm_(?!\d)\w+", (root / document).read_text())) - configurations.keys()):
            if name not in ("sm_quad",):  # the reader's own in docs/adding-an-activation.md
                faults.append(f"{document}: there is no configuration {name}")
    for fault in faults:
        print(f"check_docs.py: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
