#!/usr/bin/env python3
"""Seconds and peak memory to compile each public header alone, and one trainer.

    compile_time.py [--build DIR] [--trainer NAME] [--out DIR]

Uses the compiler and flags of a build (default build/release, made by `cmake --preset release`), one compilation at a
time; writes compile_time.md and compile_time.json to --out (default out/benchmarks).
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
HEADERS = PROJECT / "include"


def compile_command(build, program):
    """(source, folder, arguments without input and output) of a program of one source in
    compile_commands.json."""
    database = build / "compile_commands.json"
    if not database.is_file():
        sys.exit(f"compile_time.py: there is no {database}; make the build with: cmake --preset release")
    for entry in json.loads(database.read_text(encoding="utf-8")):
        if f"/{program}.dir/" not in entry["command"]:
            continue
        words = iter(shlex.split(entry["command"]))
        kept = []
        for word in words:
            if word in ("-o", "-c", "-MF", "-MT"):
                next(words)
            elif word not in ("-MD", entry["file"]):
                kept.append(word)
        return Path(entry["file"]), entry["directory"], kept
    sys.exit(f"compile_time.py: {database} does not compile {program}; is it built there?")


def compile_once(folder, command, source, scratch):
    """Seconds, core seconds, and megabytes of the compiler, including its subprocesses."""
    command = [*command, "-c", str(source), "-o", str(scratch / "out.o")]
    started = time.monotonic()
    # Without ccache, which would skip the compilation.
    process = subprocess.Popen(command, cwd=folder, env=os.environ | {"CCACHE_DISABLE": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status != 0:
        sys.exit(f"compile_time.py: {source} does not compile; the compiler's output is above.")
    return {
        "seconds": time.monotonic() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * 1024e-6,
    }


def write(path, text):
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def main():
    parser = argparse.ArgumentParser(description="Times the compilation of each public header and one trainer.")
    parser.add_argument("--build", type=Path, default=PROJECT / "build/release", help="a configured build")
    parser.add_argument("--trainer", default="train_demo_sm_ln_g", help="a program of examples/trainers")
    parser.add_argument("--out", type=Path, default=PROJECT / "out/benchmarks", help="folder for the tables")
    options = parser.parse_args()

    trainer, folder, command = compile_command(options.build.resolve(), options.trainer)
    measured = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for header in sorted(HEADERS.rglob("*.hpp")):
            include = header.relative_to(HEADERS)
            source = scratch / "header.cpp"
            source.write_text(f"#include <{include}>\n", encoding="utf-8")
            measured[str(include)] = compile_once(folder, command, source, scratch)
        measured[options.trainer] = compile_once(folder, command, trainer, scratch)

    lines = ["| | seconds | of a core | peak memory, MB |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {m['seconds']:.1f} | {m['cpu_seconds']:.1f} | {m['peak_mb']:.0f} |" for name, m in measured.items()
    ]
    table = "\n".join(lines) + "\n"
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "compile_time.md", table)
    write(options.out / "compile_time.json", json.dumps(measured, indent=2) + "\n")
    print(table, end="")


if __name__ == "__main__":
    main()
