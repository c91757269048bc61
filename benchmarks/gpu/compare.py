"""Measures training steps of lnfree and PyTorch on a GPU in turn, and writes results.json and results.md: the job behind
run.sh.

First what cuBLASLt's choice of algorithms costs. Then, for each length of windows and configuration: lnfree, PyTorch without
and with entropies, and lnfree again, each a process of its own. What is measured so far is in results.json at every moment.
"""

import argparse
import importlib.util
import json
import signal
import statistics
import sys
import time
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(BENCHMARKS))

from run import (  # noqa: E402
    BASELINE, CONFIGURATIONS, NORM_FREE, BenchmarkError, goal_of, output_of, table, table_of_goals, write
)  # fmt: skip

CONTEXTS = (128, 256, 1024)
# Tokens of a pass that PyTorch tries at its first measurement, with entropies and without; the best is kept for the others.
TOKENS_TO_TRY = (8192, 16384, 32768)
SECONDS = 4  # for the steps of one measurement
# A process that has not ended by then never will. PyTorch compiles for each batch that it tries.
LNFREE_LIMIT, PYTORCH_LIMIT = 120, 420
ENTROPY = {"pytorch": False, "pytorch_entropy": True}


def lnfree(build, context, configuration):
    command = [build / f"bin/gpu_training_step_{context}", configuration, SECONDS]
    return json.loads(output_of(command, seconds=LNFREE_LIMIT))


def products(build):
    return json.loads(output_of([build / "bin/gpu_products", SECONDS], seconds=LNFREE_LIMIT))


def pytorch(context, configuration, entropy, batches):
    command = [sys.executable, "-B", BENCHMARKS / "pytorch_step.py", "--device", "cuda", "--context", context,
               "--configuration", configuration, "--batches", ",".join(map(str, batches)), "--seconds", SECONDS]  # fmt: skip
    if entropy:
        command.append("--entropy")
    return json.loads(output_of(command, seconds=PYTORCH_LIMIT))


def measure(build, contexts, configurations, results, say, keep):
    """Fills results["steps"], "<context>/<configuration>" -> the runs of each side; keep() after each."""
    tokens = {}
    for context in contexts:
        for configuration in configurations:
            path = f"{context}/{configuration}"
            runs = results["steps"][path] = {"lnfree": []}
            for side in ("lnfree", *ENTROPY, "lnfree"):
                say(f"{path}: {side}")
                if side == "lnfree":
                    runs[side].append(lnfree(build, context, configuration))
                else:
                    to_try = [tokens[side]] if side in tokens else TOKENS_TO_TRY
                    batches = [max(1, count // context) for count in to_try]
                    runs[side] = pytorch(context, configuration, ENTROPY[side], batches)
                    tokens.setdefault(side, runs[side]["batch"] * context)
                keep()


def summary_of(results):
    """path -> the figures of a row of the table; of paths that both sides were measured at."""
    rows = {}
    for path, runs in results["steps"].items():
        if not runs.keys() >= ENTROPY.keys():
            continue

        def median(counter):
            return statistics.median(run[counter] for run in runs["lnfree"])

        row = {name: median(name) for name in ("tokens_per_second", "tokens_per_second_observed", "entropy_cost",
                                               "product_tflops", "share", "share_observed", "peak_memory_gb")}  # fmt: skip
        row["over_pytorch"] = row["tokens_per_second"] / runs["pytorch"]["tokens_per_second"]
        row["over_pytorch_observed"] = (
            row["tokens_per_second_observed"] / runs["pytorch_entropy"]["tokens_per_second"]
        )
        rows[path] = row
    return rows


def goals_of(rows):
    goals = []

    def extreme(choose, counter):
        path = choose(rows, key=lambda p: rows[p][counter])
        return rows[path][counter], path

    if not rows:
        return goals
    value, path = extreme(min, "over_pytorch")
    goals.append(goal_of(f"speed over PyTorch's, no entropies, least of all: {path}", value, 1.3))
    value, path = extreme(min, "over_pytorch_observed")
    goals.append(goal_of(f"speed over PyTorch's, entropies on both sides, least of all: {path}", value, 2))
    value, path = extreme(max, "entropy_cost")
    goals.append(goal_of(f"cost of entropies on every step, largest of all: {path}", value, 0.01, more=False))
    if row := rows.get(f"128/{NORM_FREE}"):
        value = max(row["tokens_per_second_observed"] / 600e3, row["share_observed"] / 0.57)
        what = "128/sm_r with entropies: tokens/s over 600,000 (an H100's) or share over 0.57, the larger"
        goals.append(goal_of(what, value, 1))
    for context in CONTEXTS:
        if {f"{context}/{BASELINE}", f"{context}/{NORM_FREE}"} <= rows.keys():
            speeds = [rows[f"{context}/{c}"]["tokens_per_second"] for c in (NORM_FREE, BASELINE)]
            goals.append(goal_of(f"{context}: SM+R over SM+LN+G, tokens/s", speeds[0] / speeds[1], 1.15))
    if memory := [row["peak_memory_gb"] for path, row in rows.items() if path.startswith("128/")]:
        goals.append(goal_of("128 windows of 128 tokens: GPU memory in GB, most of all", max(memory), 10, more=False))
    return goals


def markdown_of(results):
    rows = results["summary"]
    gpu = next((run["gpu"] for runs in results["steps"].values() for run in runs["lnfree"]), "unknown GPU")
    theirs = next((runs["pytorch"]["torch"] for runs in results["steps"].values() if "pytorch" in runs), "not measured")
    text = f"# {gpu}, PyTorch {theirs}, {results['started']}\n\nGPT-2 124M in bf16, steps of 65,536 tokens.\n\n"

    def memory(path, side):
        return f"{results['steps'][path][side]['peak_memory_gb']:.1f}"

    def speed(path, side):
        run = results["steps"][path][side]
        return f"{1e-3 * run['tokens_per_second']:.0f} ({run['batch']})"

    text += table(
        ["windows/configuration", "k tokens/s", "share", "with entropies", "share", "entropies cost", "product, TFLOP/s",
         "PyTorch, k tokens/s (windows of a pass)", "ratio", "with entropies", "ratio", "GB", "PyTorch's",
         "with entropies"],
        [[path, f"{1e-3 * r['tokens_per_second']:.0f}", f"{r['share']:.3f}",
          f"{1e-3 * r['tokens_per_second_observed']:.0f}", f"{r['share_observed']:.3f}", f"{100 * r['entropy_cost']:+.1f} %",
          f"{r['product_tflops']:.0f}", speed(path, "pytorch"), f"{r['over_pytorch']:.2f}", speed(path, "pytorch_entropy"),
          f"{r['over_pytorch_observed']:.2f}", f"{r['peak_memory_gb']:.1f}", memory(path, "pytorch"),
          memory(path, "pytorch_entropy")]
         for path, r in rows.items()],
    )  # fmt: skip
    text += "\n## Goals\n\n" + table_of_goals(results["goals"])
    if "products" in results:
        measured = results["products"]
        text += (
            f"\n## Products\n\nAll of a pass over 16,384 tokens: {measured['first_ms']:.2f} ms by cuBLASLt's first choices, which "
            f"lnfree takes; {measured['best_ms']:.2f} ms by the best of its first eight.\n\n"
        )
        text += table(
            ["", "calls", "first, ms", "best, ms", "its number"],
            [[p["product"], p["calls"], f"{p['first_ms']:.3f}", f"{p['best_ms']:.3f}", p["best_choice"] + 1]
             for p in measured["products"]],
        )  # fmt: skip
    return text


def main():
    parser = argparse.ArgumentParser(description="Measures training steps of lnfree and PyTorch on a GPU in turn.")
    parser.add_argument("--build", type=Path, required=True, help="folder with the programs in bin/")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and results.md")
    parser.add_argument("--quick", action="store_true", help="SM+LN+G and SM+R on windows of 128 tokens alone")
    options = parser.parse_args()
    started = time.monotonic()
    # Leaves by an exception, which takes the running program along.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))

    def say(text):
        print(f"compare.py: {time.monotonic() - started:5.0f} s  {text}", flush=True)

    results = {"started": time.strftime("%Y-%m-%d %H:%M:%S"), "steps": {}}

    def keep():
        results["summary"] = summary_of(results)
        results["goals"] = goals_of(results["summary"])
        write(options.out / "results.json", json.dumps(results, indent=2) + "\n")
        write(options.out / "results.md", markdown_of(results))

    contexts = CONTEXTS[:1] if options.quick else CONTEXTS
    configurations = (BASELINE, NORM_FREE) if options.quick else CONFIGURATIONS
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        if importlib.util.find_spec("torch") is None:
            raise BenchmarkError(f"{sys.executable} has no PyTorch to compare with; install it for that interpreter.")
        say("products")
        results["products"] = products(options.build)
        keep()
        measure(options.build, contexts, configurations, results, say, keep)
    except (BenchmarkError, OSError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 1
    print(markdown_of(results))
    say(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
