"""Measures the cost of the network: the same steps alternately on machines connected at 10 Gbit/s and without
a limit.

    tests/parallel/network.py PROGRAM [--ranks N] [--gigabits G] [--windows B] [--accumulate A] [--context T]
                              [--steps S] [--rounds R]

PROGRAM is a trainer ..._mpi of the gpt2 or the demo shape. The machines are network namespaces of this one (namespaces.py): root
and iproute2 are needed, and cores that nothing else uses. Prints the share of each step spent waiting for the
other ranks and the network, an upper bound for the exposed communication, and the formula of
docs/parallel.md.
"""

import argparse
import json
import os
import random
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from namespaces import Machines  # noqa: E402

SHAPES = {"gpt2": 50000, "demo": 4096}  # and their vocabularies


def shard(path, windows, context, vocabulary):
    tokens = random.Random(1).choices(range(vocabulary), k=windows * context)
    header = struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253)
    path.write_bytes(header + struct.pack(f"<{len(tokens)}H", *tokens))
    return path


def seconds_of_steps(out, options):
    """Seconds of a run's steps, except the first, which touches all memory for the first time."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    tokens = options.windows * options.accumulate * options.context
    return [tokens / line["tokens_per_second"] for line in lines if line["kind"] == "train"][1:]


def run(machines, options, folder, name):
    """Seconds of a step, how many of them rank 0 waited, the bytes that it sent, and seconds of the fastest
    step."""
    out = folder / name
    words = [options.program, "--train", folder / "train.bin", "--out", out, "--steps", options.steps, "--batch-size",
             options.windows, "--accumulate", options.accumulate, "--context", options.context, "--threads", options.threads, "--log-every", 1,
             "--observe-every", 0, "--eval-every", 0, "--checkpoint-every", 0]  # fmt: skip
    command = [*machines.mpirun("/usr/bin/mpirun", options.ranks), *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"network.py: the run failed: {result.stdout[-2000:]}{result.stderr[-2000:]}")
    seconds = seconds_of_steps(out, options)
    sent = int(re.search(r"each step sent (\d+) bytes", result.stdout)[1])
    waited = re.search(r"(?:exchange|wait)\D*([\d.]+) s", result.stdout)
    return statistics.median(seconds), float(waited[1]) / options.steps, sent, min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--ranks", type=int, default=2, help="one on each machine")
    parser.add_argument("--gigabits", type=float, default=10)
    parser.add_argument("--context", type=int, default=128, help="tokens of a window: few of them make the network all of a step")
    parser.add_argument("--windows", type=int, default=8, help="of a pass")
    parser.add_argument("--accumulate", type=int, default=4, help="passes of a step")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    options.program = options.program.resolve()
    options.shape = options.program.name.split("_")[1]
    options.threads = max(1, len(os.sched_getaffinity(0)) // options.ranks)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # namespaces and mounts end with it
    found = {"shaped": [], "unshaped": []}
    with tempfile.TemporaryDirectory(prefix="lnfree-network-") as temporary:
        folder = Path(temporary)
        shard(folder / "train.bin", options.windows * options.accumulate * 4, options.context, SHAPES[options.shape])
        for turn in range(options.rounds):
            for kind, limit in (("shaped", options.gigabits), ("unshaped", None)):
                with Machines(options.ranks, limit) as machines:
                    found[kind].append(run(machines, options, folder, f"{kind}{turn}"))
                step, waited, sent, fastest = found[kind][-1]
                print(f"{kind}: step {step:.3f} s, the fastest {fastest:.3f} s, {waited:.3f} s of it in calls of the network, {sent} bytes sent", flush=True)
    step, waited, sent, _ = (statistics.median(values) for values in zip(*found["shaped"], strict=True))
    base = statistics.median(value[0] for value in found["unshaped"])
    formula = sent * 8 / (options.gigabits * 1e9)
    print(f"{options.ranks} ranks, {options.accumulate} passes of {options.windows} windows, {options.gigabits:g} Gbit/s: "
          f"a step takes {step:.3f} s and {base:.3f} s without a limit ({step / base - 1:+.1%}); at most {waited / step:.1%} "
          f"of it is waiting; by the formula {formula:.3f} s, {formula / step:.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
