#!/usr/bin/python3
"""Labels every byte of Python source with the class of its token, for the program downstream.

Reads files, folders (their *.py files) and .jsonl files with a JSON object {"content": ...} on each line. Writes a line
of JSON for each source: its name, its text, and a letter for each byte of the text in UTF-8:

    i identifier    k keyword    n number    s string    c comment    o operator or bracket    w white space

The classes are those of Python's own tokenizer. A source that Python cannot read is skipped, with a line on
standard error.
"""

import argparse
import ast
import io
import json
import keyword
import os
import sys
import token
import tokenize
import warnings
from pathlib import Path

LETTERS = {
    token.NUMBER: "n",
    token.STRING: "s",
    token.COMMENT: "c",
    token.OP: "o",
    # From Python 3.12 on, f-strings consist of several tokens.
    **{
        getattr(token, name): "s" for name in ("FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END") if hasattr(token, name)
    },
}
BYTE_ORDER_MARK = "\ufeff"


class Refused(Exception):
    """A one-sentence reason why an input cannot be used."""


def classes_of(text):
    """A letter for each byte of the text; raises Refused if Python cannot read it."""
    mark = BYTE_ORDER_MARK if text.startswith(BYTE_ORDER_MARK) else ""
    source = text[len(mark) :]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as those about invalid escapes
            ast.parse(source)
        letters = _letters(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError) as error:
        place = f"line {error.lineno}: " if getattr(error, "lineno", None) else ""
        raise Refused(f"{place}{error.msg if isinstance(error, SyntaxError) else error}") from error
    every = zip(mark + source, ["w"] * len(mark) + letters)
    return "".join(letter * len(character.encode()) for character, letter in every)


def _letters(source):
    """A letter for each character."""
    starts = [0]
    for line in io.StringIO(source, newline=""):
        starts.append(starts[-1] + len(line))
    letters = ["w"] * len(source)
    for item in tokenize.generate_tokens(io.StringIO(source, newline="").readline):
        if item.type == token.NAME:
            letter = "k" if keyword.iskeyword(item.string) else "i"
        elif item.type in LETTERS:
            letter = LETTERS[item.type]
        elif item.type == token.ERRORTOKEN and not item.string.isspace():
            raise Refused(f"line {item.start[0]}: {item.string!r} is not a Python token")
        else:
            continue
        first, last = (starts[line - 1] + column for line, column in (item.start, item.end))
        letters[first:last] = [letter] * (last - first)
    return letters


def sources(path):
    """(name, function that returns the text) for every source in a path; raises Refused."""
    if path.is_dir():
        for file in sorted(path.rglob("*.py")):
            if file.is_file() and not file.is_symlink():
                yield str(file), lambda file=file: file.read_bytes().decode("utf-8")
    elif path.suffix == ".jsonl":
        try:
            with open(path, encoding="utf-8", newline="\n") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield f"{path}:{number}", lambda line=line: content_of(line)
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    elif path.is_file():
        yield str(path), lambda: path.read_bytes().decode("utf-8")
    else:
        raise Refused(f"{path} does not exist; give a Python file, a folder of them or a .jsonl file")


def content_of(line):
    """The text in a line of JSON; raises Refused."""
    try:
        value = json.loads(line)
    except ValueError as error:
        raise Refused(f"not JSON: {error}") from error
    content = value.get("content", value.get("text")) if isinstance(value, dict) else None
    if not isinstance(content, str):
        raise Refused('not a JSON object with a text "content"')
    return content


def annotate(paths, out):
    """Writes the annotated file; returns how many sources are in it, and how many were skipped."""
    written = left_out = 0
    part = out.with_name(out.name + ".part")
    try:
        with open(part, "w", encoding="utf-8", newline="\n") as file:
            for path in paths:
                for name, read in sources(path):
                    try:
                        text = read()
                        entry = {"name": name, "text": text, "classes": classes_of(text)}
                        line = json.dumps(entry, ensure_ascii=False)
                        line.encode()  # no halves of surrogate pairs
                    except (Refused, OSError, UnicodeError) as error:
                        left_out += 1
                        print(f"left out: {printable(name)}: {printable(str(error))}", file=sys.stderr)
                        continue
                    file.write(line + "\n")
                    written += 1
        if written == 0:
            raise Refused(
                f"none of {left_out} sources can be used" if left_out else "there is no Python source to annotate"
            )
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return written, left_out


def printable(text):
    """A name with any bytes, printable on one line."""
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode()


def main():
    parser = argparse.ArgumentParser(prog="annotate_python.py", description=__doc__.split("\n")[0])
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="PATH", help="Python file, folder of them, or .jsonl file"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the annotated file")
    arguments = parser.parse_args()
    try:
        written, left_out = annotate(arguments.sources, arguments.out)
    except (Refused, OSError) as error:
        print(f"annotate_python.py: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
    print(f"{written} sources annotated, {left_out} left out; wrote {printable(str(arguments.out))}")


if __name__ == "__main__":
    main()
