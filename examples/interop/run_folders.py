"""Finds the runs that a program of this folder should convert; shared by all of them."""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reproduce"))

from metrics import Metrics, by_step, series, tables  # noqa: F401, for the programs of this folder

FILE = "metrics.jsonl"


class Refusal(Exception):
    """A one-sentence error message."""


def run_folders(paths):
    """{name: folder} of every run in `paths`: folders of runs, or folders of reproduce.sh, which hold several."""
    found = {}
    for path in paths:
        folders = [path] if (path / FILE).is_file() else sorted(file.parent for file in path.glob(f"runs/*/{FILE}"))
        if not folders:
            raise Refusal(f"{path} holds no run: neither {FILE} nor runs/*/{FILE} is there; give a trainer's --out.")
        for folder in folders:
            name = folder.resolve().name
            if found.setdefault(name, folder).resolve() != folder.resolve():
                raise Refusal(f"{found[name]} and {folder} have the same name; convert them into different folders.")
    return found


def configuration(folder):
    """The checkpoint's description of model and training, {} without one."""
    found = {}
    for file, part in (("config.json", None), ("trainer.json", "course")):
        try:
            content = json.loads((folder / "checkpoint" / file).read_text(encoding="utf-8"))
            found |= content if part is None else content[part]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def parser_of(description):
    """The options that all of these programs have."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN_FOLDER",
        help=f"folder with a {FILE} (a trainer's --out), or one that examples/reproduce.sh wrote",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the result goes")
    return parser


def main(program):
    """Calls the program; prints a sentence if it fails."""
    name = Path(sys.argv[0]).name
    try:
        program()
    except (Refusal, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def needed(package, error):
    """The refusal if a package from PyPI is missing."""
    return Refusal(f"the package {package} is missing ({error}); install it with: pip install {package}")
