"""Checks that fifty steps give the same bits with any number of ranks, and move and store no more than they
should. Takes minutes.

    tests/parallel/prove_bits.py BIN [--steps N]

BIN has train_demo_sm_ln_g_mpi and train_demo_sm_r_mpi. Both train with dropout as 1, 2 and 4 ranks, with and
without sharding the optimizer's state. Of every run the checkpoint and the metrics are compared with those of
one rank, the bytes that a step sent with 2 (N - 1) / N times those of the gradients, and the memory of
AdamW's moments that a rank plans with a quarter where four share it.
"""

import argparse
import json
import random
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

CONTEXT, VOCABULARY = 128, 4096
LAUNCH = ["mpirun", "--oversubscribe", "--allow-run-as-root", "--bind-to", "none"]


def call(command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"prove_bits.py: {' '.join(map(str, command))} failed: {result.stdout[-1000:]}{result.stderr[-1000:]}")
    return result.stdout


def shard(path, windows, seed):
    tokens = random.Random(seed).choices(range(VOCABULARY), k=windows * CONTEXT)
    header = struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253)
    path.write_bytes(header + struct.pack(f"<{len(tokens)}H", *tokens))


def result_of(run):
    """What must be the same: the checkpoint, and the metrics except the speed."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("tokens_per_second", None)
    checkpoint = run / "checkpoint"
    return [(checkpoint / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")], lines


def gradient_bytes(run):
    with open(run / "checkpoint/model.safetensors", "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    return max(entry["data_offsets"][1] for name, entry in header.items() if not name.startswith("__"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin", type=Path)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    faults = 0

    def judge(holds, what):
        nonlocal faults
        faults += not holds
        print(f"{'ok    ' if holds else 'FAILED'} {what}", flush=True)

    with tempfile.TemporaryDirectory(prefix="lnfree-bits-") as temporary:
        folder = Path(temporary)
        shard(folder / "train.bin", 200, 1)
        shard(folder / "val.bin", 3, 2)
        for configuration in ("sm_ln_g", "sm_r"):
            program = options.bin / f"train_demo_{configuration}_mpi"

            def training(run, ranks, *more, steps=options.steps, program=program):
                return call([*LAUNCH, "-n", ranks, program, "--train", folder / "train.bin", "--val", folder / "val.bin", "--out",
                             run, "--steps", steps, "--step-windows", 16, "--batch-size", 2, "--dropout", 0.1, "--threads", 1,
                             "--log-every", 1, "--observe-every", 10, "--eval-every", 25, "--checkpoint-every", 0, *more])  # fmt: skip

            alone = folder / f"{configuration}1"
            training(alone, 1)
            expected = result_of(alone)
            plans = {}
            for ranks, zero in ((1, True), (2, False), (2, True), (4, False), (4, True)):
                name = f"{configuration}, {ranks} ranks{', zero' if zero else ''}"
                run = folder / name.replace(", ", "-").replace(" ", "-")
                output = training(run, ranks, *["--zero"] * zero)
                judge(result_of(run) == expected, f"{name}: the bits of {options.steps} steps")
                if ranks == 1:
                    continue
                sent = int(re.search(r"each step sent (\d+) bytes", output)[1])
                share = sent / (2 * (ranks - 1) / ranks * gradient_bytes(run))
                judge(abs(share - 1) < 0.01, f"{name}: {sent} bytes a step and rank, {share:.4f} of 2(N-1)/N times the gradients")
            for ranks, zero in ((1, False), (4, True)):
                plan = folder / "plan.json"
                call([*LAUNCH, "-n", ranks, program, "--plan-only", "--step-windows", 16, "--batch-size", 2, "--json", plan,
                      *["--zero"] * zero])  # fmt: skip
                plans[ranks] = json.loads(plan.read_text())
            whole, quarter = (plans[n]["bytes"]["optimizer"] for n in (1, 4))
            judge(quarter <= 0.25 * 1.05 * whole, f"{configuration}: {quarter} bytes of the optimizer with 4 ranks, {whole} with one")
        print(f"{faults} failed")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
