#!/usr/bin/env python3
"""Writes the texts of Parquet files as JSON lines, which prepare_corpus reads.

    parquet_to_jsonl.py [--column NAME] FILE.parquet... >corpus.jsonl

Each row becomes {"content": TEXT}, from the column NAME or else from "content" or "text"; rows without a text
are skipped and counted. It reads some rows at a time, so that memory stays small. Needs pyarrow:

    python3 -m venv env && env/bin/pip install pyarrow
"""

import argparse
import json
import sys

ROWS = 1000  # read at a time


class Refusal(Exception):
    """A one-sentence error message."""


def column_of(schema, asked, path):
    """The name of the column with the texts."""
    for name in [asked] if asked else ["content", "text"]:
        if name in schema.names:
            return name
    raise Refusal(f"{path} has no column {asked or 'content or text'}, only {', '.join(schema.names)}; give --column NAME.")


def convert(paths, asked, out):
    """Writes the rows of all files; returns how many were skipped."""
    import pyarrow
    import pyarrow.parquet

    left_out = 0
    for path in paths:
        try:
            file = pyarrow.parquet.ParquetFile(path)
            column = column_of(file.schema_arrow, asked, path)
            kind = file.schema_arrow.field(column).type
            if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
                raise Refusal(f"{path}: the column {column} holds {kind}, not text; give another --column.")
            for batch in file.iter_batches(batch_size=ROWS, columns=[column]):
                for text in batch.column(0).to_pylist():
                    if text is None:
                        left_out += 1
                    else:
                        out.write(json.dumps({"content": text}, ensure_ascii=False) + "\n")
        except (OSError, pyarrow.ArrowException) as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise Refusal(f"{path} cannot be read: {str(error).splitlines()[0].rstrip('.')}.") from error
    return left_out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--column", metavar="NAME", help='column with the texts; "content" or else "text"')
    parser.add_argument("files", metavar="FILE.parquet", nargs="+")
    arguments = parser.parse_args()
    try:
        sys.stdout.reconfigure(encoding="utf-8")
        left_out = convert(arguments.files, arguments.column, sys.stdout)
        sys.stdout.flush()
    except Refusal as refusal:
        sys.exit(f"parquet_to_jsonl.py: {refusal}")
    except ModuleNotFoundError:
        sys.exit("parquet_to_jsonl.py: pyarrow is missing; install it with pip, in a virtual environment.")
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    if left_out:
        print(f"parquet_to_jsonl.py: {left_out} rows without a text were left out", file=sys.stderr)


if __name__ == "__main__":
    main()
