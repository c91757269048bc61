"""Compares the C++ model with an independent PyTorch one: the same random weights and tokens, for every
configuration.

    parity.py PARITY_DUMP [PARITY_DUMP_...] [--seed N] [--full-size] [--bf16]

For each configuration and each program it compares loss, every gradient tensor, the entropy of every head, and the
loss and every tensor after ten optimizer steps, prints a table, and exits with 1 and the reason on any breach.

The oracle computes in double precision, the C++ in float. The allowed error of float is measured for each
case: the oracle also runs in float, several times with its weights rounded differently, and the bound of
every number is a small multiple of its largest difference from double there (float_precision.py), but never
less than a few roundings. So the bounds are as tight as the case allows, for any seed.

--full-size compares Pythia-70M itself instead, before any step (2 minutes, 7 GB). --bf16 is for programs that compute in
bf16: fixed, wider bounds, and no comparison of single numbers, whose gradients are sums that nearly cancel.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SKIPPED = 77

try:
    import numpy
    import torch
except ModuleNotFoundError as error:
    print(f"parity.py: skipped, since {error.name} is not installed (Debian: apt install python3-torch)")
    sys.exit(SKIPPED)

from float_precision import runs_in_float
from formats import read_safetensors, write_safetensors, write_shard
from parity_model import Configuration, Model, Shape, head_entropies, is_setting, tensor_shapes, train

FULL_SIZE = "pythia_70m"
GAIN_WIDTH = 64  # at which random weights have the size used here
# As in parity_dump.cpp.
WINDOWS_PER_STEP = 4
STEPS = 10
PEAK_LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Tolerance:
    """The allowed errors: relative, but entropies in nats."""

    least_bounds: dict  # of each kind of number
    # A bound is larger if this multiple of the largest error of this many runs in float is.
    multiples: dict | None = None
    gradient_runs: int = 0
    training_runs: int = 0
    least_size: int = 1  # elements of a tensor that is compared


# Weights after training may differ in a single element whose gradient is so close to 0 that AdamW's step
# varies each time: the largest error of a few runs is then less meaningful.
FLOAT = Tolerance(
    {"loss": 1e-6, "gradient": 5e-6, "entropy": 1e-6, "trained loss": 1e-6, "trained tensor": 1e-6},
    {"loss": 5, "gradient": 5, "entropy": 5, "trained loss": 5, "trained tensor": 8},
    gradient_runs=8,
    training_runs=6,
)
# For a model that takes minutes, and has no kink.
FLOAT_FULL_SIZE = Tolerance(FLOAT.least_bounds, FLOAT.multiples, gradient_runs=2, training_runs=1)
# Three to ten times the kernels' errors. Hidden units near ReLU's kink are sometimes on its other side, which
# shows in their weights' gradients.
BF16 = Tolerance(
    {"loss": 1e-2, "gradient": 0.5, "entropy": 5e-2, "trained loss": 1e-2, "trained tensor": 2e-2}, least_size=2
)


def random_weights(shape, configuration, random):
    """Weights large enough that some heads attend sharply and clipping has work to do, and in one configuration only at
    times; no values that could hide a mistake, such as a gain of 1, a bias of 0, or a residual stream for
    which a norm's epsilon is negligible."""
    weights = {}
    gain = (GAIN_WIDTH / shape.width) ** 0.5  # the same effect of a matrix at every width
    has_epsilon = configuration.norm in ("layer_norm", "rms_norm", "tapered", "staged")
    clips_at_times = configuration.norm == "dynamic_erf"
    for name, size in tensor_shapes(shape, configuration).items():
        value = random.normal(0, gain * (0.2 if "c_attn" in name or "wpe" in name else 0.12), size)
        if name.endswith("slope"):
            value += 0.3
        elif "ln_" in name and name.endswith("weight"):
            value += 1
        elif name.endswith(("alpha", "entropy_threshold", ".scale")):
            value += 0.5
        elif name.endswith(".gate"):
            value[:] = 0.6 if name == "h.1.ln_2.gate" else 1
        elif name.endswith("c_attn.bias") and not configuration.pythia:
            value[2 * shape.width :] = 0
        elif name.endswith("c_proj.weight") and has_epsilon:
            value *= 0.1
        elif name == "wte.weight" and clips_at_times:
            value *= 0.5
        weights[name] = value.astype(numpy.float32)
    return weights


@dataclass
class FirstPass:
    """A model's results for the first step's windows."""

    losses: numpy.ndarray  # for every target, or their mean
    gradients: dict
    entropies: numpy.ndarray  # [layer][head]

    def errors(self, exact):
        """(kind, name of a tensor) -> its error."""
        return {
            ("loss", None): loss_error(self.losses, exact.losses),
            ("entropy", None): numpy.abs(self.entropies - exact.entropies).max(),
        } | {("gradient", name): tensor_error(self.gradients[name], g) for name, g in exact.gradients.items()}


@dataclass
class Trained:
    """The first step's loss and the weights after all steps."""

    losses: numpy.ndarray
    weights: dict

    def errors(self, exact):
        return {("trained loss", None): loss_error(self.losses, exact.losses)} | {
            ("trained tensor", name): tensor_error(without_key_bias(name, self.weights[name]), without_key_bias(name, w))
            for name, w in exact.weights.items()
        }


def loss_error(found, exact):
    """The relative error. With the losses of all targets, errors do not cancel, so those of float cannot be
    small by luck."""
    if numpy.ndim(found) == 0:
        exact = exact.mean()
    return numpy.abs(found - exact).mean() / exact.mean()


def tensor_error(found, exact):
    difference, norm = numpy.linalg.norm(found - exact), numpy.linalg.norm(exact)
    return difference / norm if norm > 0 else difference


def without_key_bias(name, tensor):
    """A bias of the keys adds the same to all scores of a query, which softmax cancels: its gradient is only
    rounding, which AdamW turns into full steps. Their direction cannot be compared."""
    if not name.endswith("c_attn.bias"):
        return tensor
    width = tensor.size // 3
    return numpy.delete(tensor, numpy.s_[width : 2 * width])


@dataclass(frozen=True)
class Case:
    """A model that the program has."""

    name: str
    shape: Shape
    configuration: Configuration
    optimizer: str


def cases_of(program):
    """name -> Case, for all cases that the program lists."""
    run = subprocess.run([program, "--list"], capture_output=True, text=True)
    if run.returncode != 0:
        raise Failure(f"{Path(program).name} --list exited with {run.returncode}: {run.stderr.strip()}")
    return {
        name: Case(
            name,
            Shape.of(case["architecture"]),
            Configuration.of(case["architecture"], objective=case["objective"], dropout=case["dropout"]),
            case["optimizer"],
        )
        for name, case in json.loads(run.stdout).items()
    }


class Oracle:
    """A case's weights and windows, and PyTorch's results for them."""

    def __init__(self, case, steps, seed):
        self.name, self.shape, self.configuration = case.name, case.shape, case.configuration
        self.optimizer = case.optimizer
        shape = case.shape
        self.random = numpy.random.default_rng([seed, *case.name.encode()])
        self.weights = random_weights(shape, self.configuration, self.random)
        self.teacher = None
        if self.configuration.objective == "distillation":
            self.teacher = random_weights(shape, self.configuration, self.random)
        tokens = self.random.integers(0, shape.vocab_size, (steps * WINDOWS_PER_STEP, shape.context))
        self.windows = torch.from_numpy(tokens)

    def first_pass(self, model):
        objective, losses, attention = model.objective(self.windows[:WINDOWS_PER_STEP], 0)
        objective.backward()
        gradients = {
            name: (torch.zeros_like(w) if is_setting(name) else w.grad).double().numpy() for name, w in model.weights.items()
        }
        entropies = [head_entropies(a.detach().double()).mean(dim=(0, 2)) for a in attention]
        return FirstPass(losses.detach().double().numpy(), gradients, torch.stack(entropies).numpy())

    def trained(self, model):
        train(model, self.windows.split(WINDOWS_PER_STEP), PEAK_LEARNING_RATE, optimizer=self.optimizer)
        losses, _ = model.evaluate(self.windows[:WINDOWS_PER_STEP])
        weights = {name: w.detach().double().numpy() for name, w in model.weights.items()}
        return Trained(losses.double().numpy(), weights)

    def model(self):
        return Model(self.shape, self.configuration, self.weights, teacher=self.teacher)

    def result(self, run):
        """What run(model) returns in double."""
        return run(self.model())

    def result_and_bounds(self, run, tolerance):
        """The result, and (kind, name of a tensor) -> how much another program's result may differ from
        it."""
        model = self.model()
        exact = run(model)
        count = tolerance.gradient_runs if run == self.first_pass else tolerance.training_runs
        in_float = [r.errors(exact) for r in runs_in_float(run, model, self.weights, count, self.random)]
        bounds = {}
        for kind, name in exact.errors(exact):
            measured = [tolerance.multiples[kind] * errors[kind, name] for errors in in_float]
            bounds[kind, name] = max([tolerance.least_bounds[kind], *measured])
        return exact, bounds


class Failure(Exception):
    """A program's run that cannot be compared."""


def run_program(program, oracle):
    """The C++ program's results for the first pass, and after training."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_safetensors(folder / "model.safetensors", oracle.weights)
        if oracle.teacher is not None:
            write_safetensors(folder / "teacher.safetensors", oracle.teacher)
        write_shard(folder / "tokens.bin", oracle.windows.reshape(-1).numpy())
        run = subprocess.run([program, oracle.name, folder], capture_output=True, text=True)
        if run.returncode != 0:
            raise Failure(f"the program exited with {run.returncode}: {run.stderr.strip()}")
        result = json.loads((folder / "result.json").read_text())
        gradients = read_safetensors(folder / "gradients.safetensors")
        weights = read_safetensors(folder / "trained.safetensors")
    for what, tensors in {"gradients": gradients, "trained weights": weights}.items():
        if tensors.keys() != oracle.weights.keys():
            raise Failure(f"{what} of other tensors: {sorted(tensors.keys() ^ oracle.weights.keys())}")
    if result["nonfinite_rows"] != 0:
        raise Failure(f"{result['nonfinite_rows']} rows of scores are said to be non-finite")
    first_pass = FirstPass(numpy.float64(result["loss"]), gradients, numpy.array(result["head_entropy"]))
    return first_pass, Trained(numpy.float64(result["trained_loss"]), weights)


@dataclass(frozen=True)
class Expectation:
    """What a program's results for a case are compared with."""

    first: FirstPass
    trained: Trained
    bounds: dict  # (kind, name of a tensor) -> the allowed error

    @classmethod
    def of(cls, oracle, tolerance):
        first, first_bounds = oracle.result_and_bounds(oracle.first_pass, tolerance)
        trained, trained_bounds = oracle.result_and_bounds(oracle.trained, tolerance)
        return cls(first, trained, first_bounds | trained_bounds)


def compare(oracle, expected, tolerance, program):
    """One row of the table, and the breaches."""
    first, trained, bounds = expected.first, expected.trained, expected.bounds
    found_first, found_trained = run_program(program, oracle)
    errors = {
        (kind, name): error
        for (kind, name), error in (found_first.errors(first) | found_trained.errors(trained)).items()
        if name is None or oracle.weights[name].size >= tolerance.least_size
    }
    row = {"program": program.name, "configuration": oracle.name, "loss": first.losses.mean(), "trained loss": trained.losses.mean()}
    row |= {"least entropy": first.entropies.min(), "most entropy": first.entropies.max()}
    for kind in tolerance.least_bounds:
        row[f"{kind.replace('trained', 'tr.')} error"] = max(error for (k, _), error in errors.items() if k == kind)
    row["error / bound"] = max(error / bounds[key] for key, error in errors.items())
    # Written so that NaN is a breach.
    breaches = {key: error for key, error in errors.items() if not error <= bounds[key]}
    return row, [
        f"{program.name}, {oracle.name}: {' of '.join(filter(None, key))} is off by {error:.3g}, more than {bounds[key]:.3g}"
        for key, error in breaches.items()
    ]


def width_of(column):
    """In characters."""
    return 21 if column in ("program", "configuration") else 15


def add_seed(parser):
    seed = int(os.environ.get("LNFREE_TEST_SEED") or secrets.randbelow(2**31))
    parser.add_argument("--seed", type=int, default=seed, help="LNFREE_TEST_SEED by default, or fresh each run")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+", type=Path, metavar="program", help="a parity_dump program")
    add_seed(parser)
    parser.add_argument("--full-size", action="store_true", help="Pythia-70M instead of the small shapes")
    parser.add_argument("--bf16", action="store_true", help="the programs compute in bf16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"seed {options.seed}")

    programs_of = {}  # Case -> the programs that have it: the oracle computes each case once
    try:
        for program in (p.resolve() for p in options.programs):
            cases = cases_of(program)
            if not cases:
                raise Failure(f"{program.name} --list names no configuration")
            for case in cases.values():
                programs_of.setdefault(case, []).append(program)
    except (Failure, ValueError) as error:
        sys.exit(f"parity.py: {error}")
    # The first step's learning rate is 0: weights are compared as they were given.
    steps, tolerance = (1, FLOAT_FULL_SIZE) if options.full_size else (STEPS, FLOAT)
    if options.bf16:
        tolerance = BF16
    breaches, header_printed = [], False
    for case, programs in programs_of.items():
        if (case.name == FULL_SIZE) != options.full_size:
            continue
        oracle = Oracle(case, steps, options.seed)
        expected = Expectation.of(oracle, tolerance)
        for program in programs:
            try:
                row, found = compare(oracle, expected, tolerance, program)
            except Failure as failure:
                breaches.append(f"{program.name}, {case.name}: {failure}")
                continue
            breaches += found
            if not header_printed:
                print("  ".join(f"{column:>{width_of(column)}}" for column in row))
                header_printed = True
            print("  ".join(f"{v:>{width_of(c)}{'' if isinstance(v, str) else '.4g'}}" for c, v in row.items()))
    for breach in breaches:
        print(f"parity.py: {breach}", file=sys.stderr)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
