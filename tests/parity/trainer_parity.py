"""Compares the trainer programs with an independent PyTorch model, only through their files.

    trainer_parity.py TRAIN_DEMO_SM_LN_G [TRAIN_DEMO_...]

Each program writes its initial checkpoint; PyTorch reads it, and both evaluate it on the same held-out windows
and train from it on the same windows in file order. Evaluation loss, head entropies and the loss of every step
are compared. The oracle computes in double precision, the program in float; the allowed error is measured for
each seed, as in parity.py.
"""

import argparse
import json
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

from float_precision import runs_in_float
from formats import read_safetensors, write_shard
from parity import add_seed
from parity_model import Configuration, Model, Shape, train

BATCH = 2
STEPS = 12
HELD_OUT_WINDOWS = 5  # no multiple of the batch
LEARNING_RATE = 2e-3
WARMUP_RATIO = 0.1

# For all bounds: the smallest one, relative, but in nats for entropies; and the multiple of the oracle's
# error in float.
LEAST_BOUND = 1e-6
MULTIPLE = 5


class Breach(Exception):
    pass


def run(program, *arguments):
    command = [str(program), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise Breach(f"{' '.join(command)} exited with {result.returncode}: {result.stderr.strip()}")


def hold(what, errors, errors_in_float):
    """The largest of `errors`, each of which must be at most a multiple of the corresponding error in
    float."""
    bounds = numpy.maximum(LEAST_BOUND, MULTIPLE * numpy.max(errors_in_float, axis=0))
    for place in numpy.ndindex(numpy.shape(errors)):
        # Written so that NaN is a breach.
        if not errors[place] <= bounds[place]:
            name = f"{what} {', '.join(map(str, place))}".strip()
            raise Breach(f"{name} is off by {errors[place]:.3g}, more than {bounds[place]:.3g}")
    return numpy.max(errors)


def loss_errors(found, exact):
    """For the losses of all targets, whose errors do not cancel as they may in the mean."""
    return [numpy.abs(f - e).mean() / e.mean() for f, e in zip(found, exact)]


def windows_like_text(shape, count, random):
    """Windows for models of a shape, whose ids have frequencies like those of text and half of the time
    repeat recent tokens, so that a few steps can learn something."""
    ids = random.zipf(1.3, (count, shape.context)) % shape.vocab_size
    for t in range(8, shape.context):
        ids[:, t] = numpy.where(random.random(count) < 0.5, ids[:, t - 8], ids[:, t])
    return torch.from_numpy(ids)


def compare(program, name, folder, seed):
    """One row of the table."""
    random = numpy.random.default_rng(seed)
    run(program, "--steps", 0, "--seed", seed % 2**31, "--out", folder / "initial")
    weights = folder / "initial" / "checkpoint" / "model.safetensors"
    architecture = json.loads((weights.parent / "config.json").read_text())
    shape, configuration = Shape.of(architecture), Configuration.of(architecture)
    # Fewer windows than the steps visit, so the file is read more than once.
    windows = windows_like_text(shape, STEPS * BATCH - 7, random)
    held_out = windows_like_text(shape, HELD_OUT_WINDOWS, random)
    write_shard(folder / "train.bin", windows.reshape(-1).numpy())
    write_shard(folder / "held_out.bin", held_out.reshape(-1).numpy())

    run(program, "--init-from", weights, "--evaluate-only", "--batch-size", BATCH,
        "--val", folder / "held_out.bin", "--json", folder / "evaluation.json")  # fmt: skip
    run(program, "--init-from", weights, "--train", folder / "train.bin", "--steps", STEPS,
        "--batch-size", BATCH, "--accumulate", 1, "--learning-rate", LEARNING_RATE, "--warmup-ratio", WARMUP_RATIO,
        "--dropout", 0, "--no-shuffle", "--log-every", 1, "--out", folder / "trained")  # fmt: skip

    weights = read_safetensors(weights)
    found = json.loads((folder / "evaluation.json").read_text())
    lines = map(json.loads, (folder / "trained" / "metrics.jsonl").read_text().splitlines())
    curve = {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}
    targets = HELD_OUT_WINDOWS * (shape.context - 1)
    if found["targets"] != targets or found["nonfinite_rows"] != 0:
        raise Breach(f"{found['targets']} targets and {found['nonfinite_rows']} non-finite rows, expected {targets}, 0")
    if list(curve) != list(range(STEPS)):
        raise Breach(f"metrics.jsonl holds the steps {list(curve)}, expected 0 to {STEPS - 1}")

    visited = windows[[i % len(windows) for i in range(STEPS * BATCH)]]

    def results(model):
        """Before and while it is trained: the losses of the targets, of the evaluation and then of each step; the head
        entropies."""
        losses, entropies = model.evaluate(held_out, batch=2)
        curve, _ = train(model, visited.split(BATCH), LEARNING_RATE, WARMUP_RATIO)
        return [part.double().numpy() for part in (losses, *curve)], entropies.double().numpy()

    model = Model(shape, configuration, weights)
    losses, entropies = results(model)
    # Each error covers many numbers, so it can be small by luck only at kinks.
    in_float = list(runs_in_float(results, model, weights, 2 if model.distances else 1, random))
    loss_errors_in_float = numpy.array([loss_errors(run, losses) for run, _ in in_float])
    entropy_errors_in_float = [numpy.abs(run - entropies).max() for _, run in in_float]
    means = numpy.array([part.mean() for part in losses])
    errors = numpy.abs(numpy.array([found["eval_loss"], *curve.values()]) - means) / means
    return {
        "configuration": name,
        "evaluation": means[0],
        "evaluation error": hold("the evaluation loss", errors[0], loss_errors_in_float[:, 0]),
        "entropy error": hold(
            "a head entropy", numpy.abs(numpy.array(found["head_entropy"]) - entropies).max(), entropy_errors_in_float
        ),
        "first loss": means[1],
        "last loss": means[-1],
        "curve error": hold("the loss of step", errors[1:], loss_errors_in_float[:, 1:]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=Path, nargs="+", help="train_demo_<configuration>")
    add_seed(parser)
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
