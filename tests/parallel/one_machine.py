"""Two ranks with one core each against one process with two threads, alternately: the overhead of ranks on
one machine.

    tests/parallel/one_machine.py PROGRAM [--windows B] [--accumulate A] [--steps S] [--rounds R]

PROGRAM is a trainer ..._mpi of the gpt2 or the demo shape. Two cores are needed that nothing else uses.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from network import SHAPES, seconds_of_steps, shard  # noqa: E402

WAYS = {
    "one process": ["taskset", "-c", "0,1"],
    "two ranks": ["mpirun", "--allow-run-as-root", "--bind-to", "core", "-n", "2"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--windows", type=int, default=8, help="of a pass")
    parser.add_argument("--accumulate", type=int, default=2, help="passes of a step")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.program = options.program.resolve()
    options.context = 128
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    speeds = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="lnfree-machine-") as temporary:
        folder = Path(temporary)
        shard(folder / "train.bin", options.windows * options.accumulate * 4, 128, SHAPES[options.program.name.split("_")[1]])
        for turn in range(options.rounds):
            for way, launch in WAYS.items():
                out = folder / f"{way}{turn}"
                words = [*launch, options.program, "--train", folder / "train.bin", "--out", out, "--steps", options.steps,
                         "--batch-size", options.windows, "--accumulate", options.accumulate, "--threads",
                         1 if way == "two ranks" else 2, "--log-every", 1, "--observe-every", 0, "--eval-every", 0,
                         "--checkpoint-every", 0]  # fmt: skip
                result = subprocess.run([str(word) for word in words], capture_output=True, text=True)
                if result.returncode:
                    sys.exit(f"one_machine.py: {way}: {result.stdout[-2000:]}{result.stderr[-2000:]}")
                speeds[way].append(1 / statistics.median(seconds_of_steps(out, options)))
                print(f"{way}: {speeds[way][-1] * options.windows * options.accumulate * 128:.0f} tokens/s", flush=True)
    ratios = [two / one for one, two in zip(speeds["one process"], speeds["two ranks"], strict=True)]
    print(f"two ranks over one process: {statistics.median(ratios):.3f}, the median of {[round(ratio, 3) for ratio in ratios]}")


if __name__ == "__main__":
    main()
