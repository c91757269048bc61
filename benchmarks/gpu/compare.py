"""Measures training steps of lnfree and PyTorch alternately on a GPU, and writes results.json and results.md:
the job behind run.sh.

First the gain from choosing cuBLASLt's algorithms, and lnfree at each window length and configuration, in
passes of two sizes. Then, for each of them, PyTorch without and with entropies, and lnfree again in the
faster passes, each in a separate process. results.json always holds all measurements so far. If PyTorch
fails, the row gives the reason, and the others are still measured.
"""

import argparse
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
# Tokens in a pass that PyTorch tries at its first measurement, with and without entropies; later measurements
# use the best, or the next smaller that fits.
PYTORCH_TOKENS = (8192, 16384, 32768)
# Tokens in a pass for lnfree. The memory goal refers to the first.
LNFREE_TOKENS = (16384, 32768)
SECONDS = 4  # for the steps of one measurement
# Time limits of a process. PyTorch compiles for each batch size that it tries.
LNFREE_LIMIT, PYTORCH_LIMIT = 120, 420
ENTROPY = {"pytorch": False, "pytorch_entropy": True}


def lnfree(build, context, configuration, tokens):
    command = [build / f"bin/gpu_training_step_{context}", configuration, tokens, SECONDS]
    return json.loads(output_of(command, seconds=LNFREE_LIMIT))


def products(build):
    return json.loads(output_of([build / "bin/gpu_products", SECONDS], seconds=LNFREE_LIMIT))


def pytorch(context, configuration, entropy, batches, first_that_fits):
    command = [sys.executable, "-B", BENCHMARKS / "pytorch_step.py", "--device", "cuda", "--context", context,
               "--configuration", configuration, "--batches", ",".join(map(str, batches)), "--seconds", SECONDS]  # fmt: skip
    if entropy:
        command.append("--entropy")
    if first_that_fits:
        command.append("--first-that-fits")
    return json.loads(output_of(command, seconds=PYTORCH_LIMIT))


def measure(build, contexts, configurations, with_pytorch, results, say, keep):
    """Fills results["steps"], "<context>/<configuration>" -> the runs of each side; keep() after each."""
    rows = [(context, configuration) for context in contexts for configuration in configurations]

    def measure_lnfree(context, configuration, tokens):
        path = f"{context}/{configuration}"
        say(f"{path}: lnfree")
        run = lnfree(build, context, configuration, tokens)
        results["steps"].setdefault(path, {"lnfree": []})["lnfree"].append(run)
        keep()

    for row in rows:
        for count in LNFREE_TOKENS:
            measure_lnfree(*row, count)
    tokens = {}
    for context, configuration in rows:
        path = f"{context}/{configuration}"
        for side in ENTROPY if with_pytorch else ():
            say(f"{path}: {side}")
            best = tokens.get(side)
            to_try = sorted((count for count in PYTORCH_TOKENS if count <= best), reverse=True) if best else PYTORCH_TOKENS
            batches = [max(1, count // context) for count in to_try]
            try:
                run = pytorch(context, configuration, ENTROPY[side], batches, first_that_fits=best is not None)
                tokens[side] = run["batch"] * context
            except (BenchmarkError, ValueError) as error:
                run = {"failure": str(error)}
                say(f"{path}: {side} failed: {error}")
            results["steps"][path][side] = run
            keep()
        measure_lnfree(context, configuration, fastest_batch(results["steps"][path]["lnfree"]) * context)


def median_of(runs, batch, counter):
    return statistics.median(run[counter] for run in runs if run["batch"] == batch)


def fastest_batch(runs):
    return max(sorted({run["batch"] for run in runs}), key=lambda batch: median_of(runs, batch, "tokens_per_second"))


def failures_of(results):
    """(path, side, reason) of PyTorch's failures."""
    return [
        (path, side, runs[side]["failure"])
        for path, runs in results["steps"].items()
        for side in ENTROPY
        if "failure" in runs.get(side, {})
    ]


def summary_of(results):
    """path -> the figures of a table row, of the fastest passes; with ratios only if PyTorch was measured."""
    rows = {}
    for path, runs in results["steps"].items():
        ours = runs["lnfree"]
        batch = fastest_batch(ours)
        row = {name: median_of(ours, batch, name)
               for name in ("tokens_per_second", "tokens_per_second_observed", "entropy_cost", "product_tflops", "share",
                            "share_observed", "peak_memory_gb")}  # fmt: skip
        row |= {"batch": batch, "least_memory_gb": min(run["peak_memory_gb"] for run in ours)}
        for side, ratio, counter in (("pytorch", "over_pytorch", "tokens_per_second"),
                                     ("pytorch_entropy", "over_pytorch_observed", "tokens_per_second_observed")):  # fmt: skip
            if theirs := runs.get(side, {}).get("tokens_per_second"):
                row[ratio] = row[counter] / theirs
        rows[path] = row
    return rows


def goals_of(rows):
    goals = []

    def add_extreme(choose, counter, what, goal, **options):
        measured = {path: row[counter] for path, row in rows.items() if counter in row}
        if measured:
            path = choose(measured, key=measured.get)
            goals.append(goal_of(f"{what} of all: {path}", measured[path], goal, **options))

    add_extreme(min, "over_pytorch", "speed over PyTorch's, no entropies, least", 1.3)
    add_extreme(min, "over_pytorch_observed", "speed over PyTorch's, entropies on both sides, least", 2)
    add_extreme(max, "entropy_cost", "cost of entropies on every step, largest", 0.01, more=False)
    if row := rows.get(f"128/{NORM_FREE}"):
        value = max(row["tokens_per_second_observed"] / 600e3, row["share_observed"] / 0.57)
        what = "128/sm_r with entropies: tokens/s over 600,000 (an H100's) or share over 0.57, the larger"
        goals.append(goal_of(what, value, 1))
    for context in CONTEXTS:
        if {f"{context}/{BASELINE}", f"{context}/{NORM_FREE}"} <= rows.keys():
            speeds = [rows[f"{context}/{c}"]["tokens_per_second"] for c in (NORM_FREE, BASELINE)]
            goals.append(goal_of(f"{context}: SM+R over SM+LN+G, tokens/s", speeds[0] / speeds[1], 1.15))
    if memory := [row["least_memory_gb"] for path, row in rows.items() if path.startswith("128/")]:
        goals.append(goal_of("128 windows of 128 tokens: GPU memory in GB, most of all", max(memory), 10, more=False))
    return goals


def markdown_of(results):
    rows = results["summary"]
    gpu = next((run["gpu"] for runs in results["steps"].values() for run in runs["lnfree"]), "unknown GPU")
    versions = (runs[side]["torch"] for runs in results["steps"].values() for side in ENTROPY if "torch" in runs.get(side, {}))
    theirs = next(versions, "not measured")
    text = f"# {gpu}, PyTorch {theirs}, {results['started']}\n\nGPT-2 124M in bf16, steps of 65,536 tokens.\n\n"

    def of_pytorch(path, side, text_of):
        run = results["steps"][path].get(side, {})
        return "failed" if "failure" in run else text_of(run) if run else ""

    def memory(path, side):
        return of_pytorch(path, side, lambda run: f"{run['peak_memory_gb']:.1f}")

    def speed(path, side):
        return of_pytorch(path, side, lambda run: f"{1e-3 * run['tokens_per_second']:.0f} ({run['batch']})")

    def ratio(row, name):
        return f"{row[name]:.2f}" if name in row else ""

    text += table(
        ["windows/configuration", "k tokens/s (windows of a pass)", "share", "with entropies", "share", "entropies cost",
         "product, TFLOP/s",
         "PyTorch, k tokens/s (windows of a pass)", "ratio", "with entropies", "ratio", "GB", "PyTorch's",
         "with entropies"],
        [[path, f"{1e-3 * r['tokens_per_second']:.0f} ({r['batch']})", f"{r['share']:.3f}",
          f"{1e-3 * r['tokens_per_second_observed']:.0f}", f"{r['share_observed']:.3f}", f"{100 * r['entropy_cost']:+.1f} %",
          f"{r['product_tflops']:.0f}", speed(path, "pytorch"), ratio(r, "over_pytorch"), speed(path, "pytorch_entropy"),
          ratio(r, "over_pytorch_observed"), f"{r['peak_memory_gb']:.1f}", memory(path, "pytorch"),
          memory(path, "pytorch_entropy")]
         for path, r in rows.items()],
    )  # fmt: skip
    if failures := failures_of(results):
        text += "\n## Where PyTorch failed\n\n"
        text += "".join(f"- {path}, {side}: {reason}\n" for path, side, reason in failures)
    text += "\n## Goals\n\n" + table_of_goals(results["goals"])
    if "products" in results:
        measured = results["products"]
        text += (
            f"\n## Products\n\nAll of a pass over 16,384 tokens: {measured['first_ms']:.2f} ms by cuBLASLt's first choices, "
            f"{measured['ours_ms']:.2f} ms by lnfree's, {measured['best_ms']:.2f} ms by the best of its first eight.\n\n"
        )
        text += table(
            ["", "calls", "first, ms", "lnfree's, ms", "best, ms", "its number"],
            [[p["product"], p["calls"], f"{p['first_ms']:.3f}", f"{p['ours_ms']:.3f}", f"{p['best_ms']:.3f}",
              p["best_choice"] + 1]
             for p in measured["products"]],
        )  # fmt: skip
    return text


def main():
    parser = argparse.ArgumentParser(description="Measures training steps of lnfree and PyTorch alternately on a GPU.")
    parser.add_argument("--build", type=Path, required=True, help="folder with the programs in bin/")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and results.md")
    parser.add_argument("--quick", action="store_true", help="only SM+LN+G and SM+R, on windows of 128 tokens")
    parser.add_argument("--no-pytorch", action="store_true", help="lnfree alone")
    options = parser.parse_args()
    started = time.monotonic()
    # Exits by an exception, so that the running program is also ended.
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
        say("products")
        results["products"] = products(options.build)
        keep()
        measure(options.build, contexts, configurations, not options.no_pytorch, results, say, keep)
    except (BenchmarkError, OSError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 1
    print(markdown_of(results))
    say(f"written to {options.out}")
    if failures := failures_of(results):
        print(f"compare.py: PyTorch failed in {len(failures)} measurements; {options.out}/results.md says why", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
