#!/usr/bin/env python3
"""Checks ptxas' report on the library's kernels against their limits.

    kernel_resources.py [--markdown] LOG

LOG is the output of nvcc -Xptxas -v. Fails when a kernel spills registers or has a stack in memory.
--markdown prints a table of the attention kernels, the ones that fill registers, instead of the summary.
"""

import argparse
import re
import subprocess
import sys

ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\S+)' for 'sm_(?P<arch>\d+)\w*'\n"
    r"(?:(?!.*Compiling entry).*\n)*?"
    r"\s*(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads\n"
    r".*Used (?P<registers>\d+) registers"
)


def kernels(log):
    entries = [match.groupdict() for match in ENTRY.finditer(log)]
    mangled = "\n".join(entry["name"] for entry in entries)
    names = subprocess.run(
        ["c++filt"], input=mangled, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for entry, name in zip(entries, names):
        entry["name"] = (
            re.sub(r"lnfree::(cuda::)?|\(anonymous namespace\)::|\([a-z ]+\)(?=\d)", "", name)
            .removeprefix("void ")
            .split("(")[0]
        )
    return entries


def markdown(entries):
    registers = {}
    for entry in entries:
        if re.match(r"attention_\w+_kernel", entry["name"]):
            registers.setdefault(entry["name"], {})[entry["arch"]] = entry["registers"]
    archs = sorted({arch for of in registers.values() for arch in of})
    print("| kernel | " + " | ".join(f"sm_{arch}" for arch in archs) + " |")
    print("|---|" + "---|" * len(archs))
    for name, of in sorted(registers.items()):
        print(f"| `{name}` | " + " | ".join(of.get(arch, "") for arch in archs) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--markdown", action="store_true", help="print the attention kernels' registers as a table"
    )
    parser.add_argument("log", metavar="LOG", help="what nvcc -Xptxas -v printed")
    arguments = parser.parse_args()
    with open(arguments.log, encoding="utf-8") as file:
        entries = kernels(file.read())
    if not entries:
        sys.exit(f"{arguments.log}: no kernel is named here; expected what nvcc -Xptxas -v prints")
    if arguments.markdown:
        markdown(entries)
        return
    failures = 0
    for entry in entries:
        if any(int(entry[key]) for key in ("stack", "stores", "loads")):
            failures += 1
            print(
                f"{entry['name']} on sm_{entry['arch']}: {entry['stack']} bytes of stack, {entry['stores']} spilled,"
                f" {entry['loads']} read back"
            )
    most = max(entries, key=lambda entry: int(entry["registers"]))
    print(
        f"{len(entries)} kernels, {failures} with numbers in memory; at most {most['registers']} registers: {most['name']}"
    )
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
