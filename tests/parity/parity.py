"""Holds the C++ model against an independent PyTorch one: the same random weights and tokens, every configuration.

    parity.py PARITY_DUMP [--seed N]

For each configuration it compares loss, every gradient tensor, the entropy of every head, and the loss and
every tensor after ten optimizer steps, prints a table, and exits with 1 and the reason on any breach. The oracle computes in double
precision, the C++ in float.
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
    print(f"parity.py: skipped, since {error.name} is not installed (Debian: apt install python3-torch)")
    sys.exit(SKIPPED)

from formats import read_safetensors, write_safetensors, write_shard
from parity_model import CONFIGURATIONS, Model, Shape, tensor_shapes, train

# As parity_dump.cpp has them.
SHAPE = Shape(layers=3, heads=4, width=64, ffn_width=256, context=32, vocab_size=256, positions=40)
WINDOWS_PER_STEP = 4
STEPS = 10
PEAK_LEARNING_RATE = 1e-3

LOSS_RELATIVE = 1e-5
GRADIENT_RELATIVE = 1e-4
ENTROPY_ABSOLUTE = 1e-5
TRAINED_LOSS_RELATIVE = 1e-4
TRAINED_TENSOR_RELATIVE = 1e-4

# A hidden unit that is 0 to float's precision may count as negative on one side and positive on the other: other
# gradients, and neither is wrong. Windows are drawn until no unit comes this close in any of the steps.
LEAST_DISTANCE_TO_KINK = 1e-6

# The gradient of a slope is a sum of terms of both signs. Where they cancel to less than this, what float leaves of
# it says nothing.
LEAST_SLOPE_GRADIENT = 3e-3


def random_weights(configuration, random):
    """Weights large enough that some heads attend sharply and clipping has work to do; no value that a mistake
    could hide behind, such as a gain of 1 or a bias of 0."""
    weights = {}
    for name, shape in tensor_shapes(SHAPE, configuration).items():
        value = random.normal(0, 0.2 if "c_attn" in name or "wpe" in name else 0.12, shape)
        if name.endswith("slope"):
            value += 0.3
        elif "ln_" in name and name.endswith("weight"):
            value += 1
        elif name.endswith(("alpha", "entropy_threshold")):
            value += 0.5
        elif name.endswith("c_attn.bias") and not configuration.pythia:
            value[2 * SHAPE.width :] = 0
        weights[name] = value.astype(numpy.float32)
    return weights


def relative(found, expected):
    return abs(found - expected) / abs(expected)


def tensor_relative(found, expected):
    difference, norm = numpy.linalg.norm(found - expected), numpy.linalg.norm(expected)
    return difference / norm if norm > 0 else difference


def without_key_bias(name, tensor):
    """A bias of the keys adds the same to all scores of a query, which softmax takes out again: its gradient is
    nothing but rounding, out of which AdamW makes steps of full size. Their direction cannot be compared."""
    if not name.endswith("c_attn.bias"):
        return tensor
    return numpy.delete(tensor, numpy.s_[SHAPE.width : 2 * SHAPE.width])


def first_step(tokens):
    return torch.from_numpy(tokens[:WINDOWS_PER_STEP])


def oracle(configuration, weights, random):
    """Windows for all steps; the loss, gradients and head entropies of the first step's; and the model after the
    last step."""
    while True:
        tokens = random.integers(0, SHAPE.vocab_size, (STEPS * WINDOWS_PER_STEP, SHAPE.context))
        model = Model(SHAPE, configuration, weights)
        objective, loss = model.objective(first_step(tokens))
        objective.backward()
        gradients = {name: w.grad.numpy().copy() for name, w in model.weights.items()}
        _, entropies = model.evaluate(first_step(tokens))
        if any(abs(g[0]) < LEAST_SLOPE_GRADIENT for name, g in gradients.items() if name.endswith("slope")):
            continue
        train(model, torch.from_numpy(tokens).split(WINDOWS_PER_STEP), PEAK_LEARNING_RATE)
        if model.nearest_kink > LEAST_DISTANCE_TO_KINK:
            return tokens, loss.item(), gradients, entropies, model


def compare(name, program, folder, seed):
    """One row of the table, and the breaches."""
    configuration = CONFIGURATIONS[name]
    random = numpy.random.default_rng([seed, sorted(CONFIGURATIONS).index(name)])
    weights = random_weights(configuration, random)
    tokens, loss, gradients, entropies, model = oracle(configuration, weights, random)
    write_safetensors(folder / "model.safetensors", weights)
    write_shard(folder / "tokens.bin", tokens.reshape(-1))

    run = subprocess.run([program, name, folder], capture_output=True, text=True)
    if run.returncode != 0:
        return None, [f"{name}: parity_dump exited with {run.returncode}: {run.stderr.strip()}"]
    found = json.loads((folder / "result.json").read_text())
    found_gradients = read_safetensors(folder / "gradients.safetensors")
    found_trained = read_safetensors(folder / "trained.safetensors")

    trained_loss, _ = model.evaluate(first_step(tokens))

    breaches = []

    def hold(what, error, bound):
        # Written so that NaN is a breach.
        if not error <= bound:
            breaches.append(f"{name}: {what} is off by {error:.3g}, more than {bound:g}")
        return error

    row = {"configuration": name, "loss": loss}
    row["loss error"] = hold("the loss", relative(found["loss"], loss), LOSS_RELATIVE)
    if found_gradients.keys() != gradients.keys():
        breaches.append(f"{name}: gradients of other tensors: {sorted(found_gradients.keys() ^ gradients.keys())}")
        return row, breaches
    row["gradient error"] = max(
        hold(f"the gradient of {n}", tensor_relative(found_gradients[n], g), GRADIENT_RELATIVE)
        for n, g in gradients.items()
    )
    differences = numpy.abs(numpy.array(found["head_entropy"]) - numpy.array(entropies))
    row["least entropy"], row["most entropy"] = numpy.min(entropies), numpy.max(entropies)
    row["entropy error"] = hold("a head entropy", differences.max(), ENTROPY_ABSOLUTE)
    row["trained loss"] = trained_loss
    row["trained error"] = hold(
        f"the loss after {STEPS} steps", relative(found["trained_loss"], trained_loss), TRAINED_LOSS_RELATIVE
    )
    row["tensor error"] = max(
        hold(
            f"{n} after {STEPS} steps",
            tensor_relative(without_key_bias(n, found_trained[n]), without_key_bias(n, w.detach().numpy())),
            TRAINED_TENSOR_RELATIVE,
        )
        for n, w in model.weights.items()
    )
    if found["nonfinite_rows"] != 0:
        breaches.append(f"{name}: {found['nonfinite_rows']} rows of scores are said to be non-finite")
    return row, breaches


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help="the parity_dump program")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="fresh each run by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"seed {options.seed}")

    breaches, header_printed = [], False
    for name in CONFIGURATIONS:
        with tempfile.TemporaryDirectory() as folder:
            row, found = compare(name, options.program.resolve(), Path(folder), options.seed)
        breaches += found
        if row is None:
            continue
        if not header_printed:
            print("  ".join(f"{column:>15}" for column in row))
            header_printed = True
        print("  ".join(f"{v:>15}" if isinstance(v, str) else f"{v:>15.4g}" for v in row.values()))
    for breach in breaches:
        print(f"parity.py: {breach}", file=sys.stderr)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
