"""Holds the trainer programs against an independent PyTorch model, through their files alone.

    trainer_parity.py TRAIN_DEMO_SM_LN_G [TRAIN_DEMO_...]

Each program writes its initial checkpoint; PyTorch reads it, and both evaluate it on the same held-out windows
and train from it on the same windows in file order. Evaluation loss, head entropies and the loss of every step
are compared. The oracle computes in double precision, the program in float.
"""

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

SKIPPED = 77

try:
    import numpy
    import torch
except ModuleNotFoundError as error:
    print(f"trainer_parity.py: skipped, since {error.name} is not installed (Debian: apt install python3-torch)")
    sys.exit(SKIPPED)

from formats import read_safetensors, write_shard
from parity_model import CONFIGURATIONS, Model, Shape, train

# The demo shape, DecoderConfig demo in core/config.hpp.
SHAPE = Shape(layers=8, heads=4, width=64, ffn_width=256, context=128, vocab_size=4096, positions=128)
BATCH = 2
STEPS = 20
HELD_OUT_WINDOWS = 5  # no multiple of the batch
LEARNING_RATE = 2e-3
WARMUP_RATIO = 0.1

EVALUATION_RELATIVE = 1e-5
ENTROPY_ABSOLUTE = 1e-5
STEP_LOSS_RELATIVE = 1e-4


class Breach(Exception):
    pass


def run(program, *arguments):
    command = [str(program), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise Breach(f"{' '.join(command)} exited with {result.returncode}: {result.stderr.strip()}")


def hold(what, error, bound):
    # Written so that NaN is a breach.
    if not error <= bound:
        raise Breach(f"{what} is off by {error:.3g}, more than {bound:g}")
    return error


def windows_like_text(count, random):
    """Windows whose ids are as unevenly frequent as a text's, and half of the time repeat what stood a little
    before: there is something to learn within a few steps."""
    ids = random.zipf(1.3, (count, SHAPE.context)) % SHAPE.vocab_size
    for t in range(8, SHAPE.context):
        ids[:, t] = numpy.where(random.random(count) < 0.5, ids[:, t - 8], ids[:, t])
    return torch.from_numpy(ids)


def compare(program, name, folder, seed):
    """One row of the table."""
    random = numpy.random.default_rng(seed)
    # Fewer windows than the steps visit: the file is gone through again.
    windows, held_out = windows_like_text(STEPS * BATCH - 7, random), windows_like_text(HELD_OUT_WINDOWS, random)
    write_shard(folder / "train.bin", windows.reshape(-1).numpy())
    write_shard(folder / "held_out.bin", held_out.reshape(-1).numpy())

    run(program, "--steps", 0, "--seed", seed % 2**31, "--out", folder / "initial")
    weights = folder / "initial" / "checkpoint" / "model.safetensors"
    run(program, "--init-from", weights, "--evaluate-only", "--batch-size", BATCH,
        "--val", folder / "held_out.bin", "--json", folder / "evaluation.json")  # fmt: skip
    run(program, "--init-from", weights, "--train", folder / "train.bin", "--steps", STEPS,
        "--batch-size", BATCH, "--accumulate", 1, "--learning-rate", LEARNING_RATE, "--warmup-ratio", WARMUP_RATIO,
        "--dropout", 0, "--no-shuffle", "--log-every", 1, "--out", folder / "trained")  # fmt: skip

    model = Model(SHAPE, CONFIGURATIONS[name], read_safetensors(weights))
    found = json.loads((folder / "evaluation.json").read_text())
    loss, entropies = model.evaluate(held_out, batch=2)
    targets = HELD_OUT_WINDOWS * (SHAPE.context - 1)
    if found["targets"] != targets or found["nonfinite_rows"] != 0:
        raise Breach(f"{found['targets']} targets and {found['nonfinite_rows']} non-finite rows, expected {targets}, 0")
    row = {"configuration": name, "evaluation": loss}
    row["evaluation error"] = hold(
        "the evaluation loss", abs(found["eval_loss"] - loss) / loss, EVALUATION_RELATIVE
    )
    differences = numpy.abs(numpy.array(found["head_entropy"]) - numpy.array(entropies))
    row["entropy error"] = hold("a head entropy", differences.max(), ENTROPY_ABSOLUTE)

    visited = [i % len(windows) for i in range(STEPS * BATCH)]
    losses, _ = train(model, windows[visited].split(BATCH), LEARNING_RATE, WARMUP_RATIO)
    lines = map(json.loads, (folder / "trained" / "metrics.jsonl").read_text().splitlines())
    curve = {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}
    if list(curve) != list(range(STEPS)):
        raise Breach(f"metrics.jsonl holds the steps {list(curve)}, expected 0 to {STEPS - 1}")
    row["first loss"], row["last loss"] = losses[0], losses[-1]
    row["curve error"] = max(
        hold(f"the loss of step {s}", abs(curve[s] - losses[s]) / losses[s], STEP_LOSS_RELATIVE) for s in curve
    )
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=Path, nargs="+", help="train_demo_<configuration>")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="fresh each run by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"seed {options.seed}")

    failed, header_printed = False, False
    for program in options.programs:
        name = program.name.removeprefix("train_demo_")
        try:
            with tempfile.TemporaryDirectory() as folder:
                row = compare(program.resolve(), name, Path(folder), options.seed)
        except Breach as breach:
            print(f"trainer_parity.py: {name}: {breach}", file=sys.stderr)
            failed = True
            continue
        if not header_printed:
            print("  ".join(f"{column:>16}" for column in row))
            header_printed = True
        print("  ".join(f"{v:>16}" if isinstance(v, str) else f"{v:>16.4g}" for v in row.values()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
