#!/usr/bin/env python3
"""Writes the CPU part of lnfree into one file, for compilers without access to folders, such as Compiler
Explorer's.

    single_header.py FILE [HEADER...]

FILE gets the content of <lnfree/model.hpp>, or of the given HEADERs, such as lnfree/nn/generate.hpp, with
everything they include from lnfree. It begins with the version and the license, and the same sources always
make the same file. A program for AVX needs no other library; without AVX, and for EigenCpu, Eigen must be on
the include path.
"""

import argparse
import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r"\s*#\s*include\s*<([^>]+)>")
CONDITION = re.compile(r"\s*#\s*(if|ifdef|ifndef|else|elif|endif)\b\s*(.*)")
FOR_GPUS = {"LNFREE_GPU_COMPILER": False, "!LNFREE_GPU_COMPILER": True}  # met in C++?
CUDA = "lnfree/device/cuda/"


class Amalgamation:
    """The text of merged headers, each before its first use."""

    def __init__(self, root):
        self.root = root
        self.lines = []
        self.included = set()  # unconditionally
        self.guarded = set()  # conditionally: later text must check whether it was included

    def add(self, header, within_condition=False):
        if header in self.included:
            return
        guard = "LNFREE_SINGLE_" + re.sub(r"\W", "_", header.removeprefix("lnfree/")).upper()
        if within_condition:
            self.guarded.add(header)
        else:
            self.included.add(header)
        has_guard = header in self.guarded
        self.lines += [*([""] if self.lines[-1] else []), f"// ---- {header}"]
        if has_guard:
            self.lines += [f"#ifndef {guard}", f"#define {guard}"]
        conditions = []  # open conditions: None, or whether the condition is met, if known here
        for line in (self.root / header).read_text(encoding="utf-8").splitlines():
            condition = CONDITION.match(line)
            if condition and condition[1] in ("if", "ifdef", "ifndef"):
                conditions.append(FOR_GPUS.get(condition[2]))
                known = conditions[-1] is not None
            elif condition:
                known = conditions[-1] is not None
                if condition[1] == "endif":
                    conditions.pop()
                elif known:
                    conditions[-1] = not conditions[-1]
            if False in conditions or (condition and known) or line.strip() == "#pragma once":
                continue
            include = INCLUDE.match(line)
            if include:
                self.include(include[1], line, within_condition or has_guard or None in conditions)
            elif line or self.lines[-1]:  # no gaps of several lines where headers were removed
                self.lines.append(line)
        if has_guard:
            self.lines.append("#endif")

    def include(self, name, line, within_condition):
        if name.startswith("lnfree/"):
            self.add(name, within_condition)
        elif name not in self.included:
            if not within_condition:
                self.included.add(name)
            self.lines.append(line)


def main():
    parser = argparse.ArgumentParser(description="Writes the CPU part of lnfree into one file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("headers", nargs="*", default=["lnfree/model.hpp"], metavar="HEADER")
    options = parser.parse_args()
    root = PROJECT / "include"
    for header in options.headers:
        if not header.startswith("lnfree/") or header.startswith(CUDA) or not (root / header).is_file():
            sys.exit(f"single_header.py: there is no header {header} for C++ in {root}; name one such as lnfree/model.hpp.")

    version = re.search(r'LNFREE_VERSION "(.+)"', (root / "lnfree/version.hpp").read_text(encoding="utf-8"))[1]
    license_text = (PROJECT / "LICENSE").read_text(encoding="utf-8").strip().splitlines()
    whole = Amalgamation(root)
    whole.lines += [
        f"// lnfree {version} in one file, made by cmake/single_header.py of {', '.join(options.headers)}: do not edit.",
        "// SPDX-License-Identifier: MIT",
        "//",
        *(f"// {line}".rstrip() for line in license_text),
        "#pragma once",
        "",
        "#if defined(__CUDACC__)",
        '#error "lnfree.hpp is for C++; a CUDA source includes lnfree/model.hpp"',
        "#endif",
        "",
    ]
    whole.add("lnfree/version.hpp")
    for header in options.headers:
        whole.add(header)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    part = options.file.with_name(options.file.name + ".part")
    part.write_text("\n".join(whole.lines) + "\n", encoding="utf-8")
    part.replace(options.file)


if __name__ == "__main__":
    main()
