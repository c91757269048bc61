"""Runs the benchmarks of lnfree and PyTorch alternately, and writes results.json and results.md: the job
behind run.sh.

Every figure is the median of two rounds. A round runs lnfree and then PyTorch on one shape and configuration;
each in a separate process, so that memory is measured separately and none starts with the other's warm
caches. Comparisons within lnfree, such as of configurations, alternate steps in one process, since machines
change their speed by the minute.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHAPES = ("gpt2", "small", "demo")
ON_ALL_THREADS = ("gpt2", "small")
CONFIGURATIONS = ("sm_ln_g", "sm_ln_r", "sm_g", "sm_r")
BASELINE, NORM_FREE = "sm_ln_g", "sm_r"
ROUNDS = 2
# How many cores other programs may keep busy; with more the figures are worthless.
IDLE_CORES = 0.15


class BenchmarkError(Exception):
    """A one-sentence error message for the user."""


def output_of(command, environment=None, seconds=None):
    """The output of a program that takes at most `seconds`; raises its error message if it fails."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env=os.environ | (environment or {}),
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{Path(command[0]).name} took longer than {seconds} s.") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["(it said nothing)"])[-1]
        raise BenchmarkError(f"{Path(command[0]).name} ended with status {done.returncode}: {last}")
    return done.stdout


class OthersWork:
    """How many cores other programs, or other guests of the host, used while one of our programs ran."""

    def __init__(self):
        self.cores = []

    def during(self, run):
        """Returns run(), recording the work of others meanwhile."""
        started, before = time.monotonic(), self._seconds()
        result = run()
        self.cores.append(max(0.0, (self._seconds() - before) / (time.monotonic() - started)))
        return result

    @staticmethod
    def _seconds():
        with open("/proc/stat", encoding="ascii") as stat:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
        own = os.times()
        everyone = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return everyone - own.user - own.system - own.children_user - own.children_system

    def worst(self):
        return max(self.cores)


class Lnfree:
    """The benchmark programs of a build."""

    def __init__(self, build):
        self.build = build

    def benchmarks(self, program, pattern):
        """Name -> counters of every matching benchmark, and the context with the machine's peak."""
        command = [self.build / "bin" / program, f"--benchmark_filter={pattern}", "--benchmark_format=json"]
        report = json.loads(output_of(command))
        if not report["benchmarks"]:
            raise BenchmarkError(f"{program} has no benchmark that matches {pattern}.")
        return {b["name"]: b for b in report["benchmarks"]}, report["context"]

    def has(self, program, name):
        listed = output_of([self.build / "bin" / program, "--benchmark_list_tests"])
        return name in listed.split()

    def blas_folder(self):
        """The folder of the BLAS that the build found, or None."""
        match = re.search(r"^BLAS_\w+_LIBRARY:\w+=(/.+)$", (self.build / "CMakeCache.txt").read_text(), re.MULTILINE)
        return Path(match[1]).resolve().parent if match else None


def pytorch(shape, configuration, blas_folder):
    """PyTorch's step, on the BLAS that lnfree was built with if it can replace PyTorch's own."""
    # Large pages, which lnfree asks for itself: without them PyTorch spends much of a step on new memory.
    environment = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    if blas_folder is not None and (blas_folder / "libblas.so.3").exists():
        environment["LD_LIBRARY_PATH"] = f"{blas_folder}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")
    command = [sys.executable, HERE / "pytorch_step.py", "--shape", shape, "--configuration", configuration]
    return json.loads(output_of(command, environment))


def median_of(runs, counter):
    return statistics.median(run[counter] for run in runs)


def measure(lnfree, configurations, with_primitives, say):
    """All measurements, as in results.json."""
    threads = len(os.sched_getaffinity(0))
    results = {
        "threads": threads,
        "processor": processor(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "rounds": ROUNDS,
        "machine": [],
        "steps": {},
        "observer_cost": {},
        "in_turn": {},
    }
    blas_folder = lnfree.blas_folder()
    for shape in SHAPES:
        for configuration in configurations:
            ours, theirs, costs, others = [], [], [], OthersWork()
            path = f"{shape}/{configuration}"
            for number in range(1, ROUNDS + 1):
                say(f"{path}, round {number} of {ROUNDS}: lnfree")
                pattern = f"^(training_step|observer_cost)/{path}(/|$)"
                found, context = others.during(lambda p=pattern: lnfree.benchmarks("bench_training_step", p))
                ours.append({o: found[f"training_step/{path}/{o}"] for o in ("none", "entropy")})
                costs.append(found[f"observer_cost/{path}"])
                results["machine"].append(peak_of(context))
                say(f"{path}, round {number} of {ROUNDS}: PyTorch")
                theirs.append(others.during(lambda: pytorch(shape, configuration, blas_folder)))
                say(f"{path}, round {number} of {ROUNDS}: others kept {others.worst():.2f} cores busy")
            if ours[0]["none"]["parameters"] != theirs[0]["parameters"]:
                raise BenchmarkError(f"{path}: lnfree and PyTorch do not have the same number of parameters.")
            results["steps"][path] = {"lnfree": ours, "pytorch": theirs, "others_cores": others.worst()}
            results["observer_cost"][path] = costs
    in_turn = [f"norm_free_speedup/{shape}/{NORM_FREE}" for shape in SHAPES]
    in_turn += [f"eigen_speedup/{shape}/{BASELINE}" for shape in ON_ALL_THREADS]
    if threads > 1:
        in_turn += [f"thread_speedup/{shape}/{BASELINE}" for shape in ON_ALL_THREADS]
    # Without oneDNN there is no such benchmark; without bf16 in the processor it gives a message instead of
    # figures.
    if lnfree.has("bench_training_step", f"bf16_speedup/gpt2/{BASELINE}"):
        in_turn.append(f"bf16_speedup/gpt2/{BASELINE}")
    for name in in_turn:
        say(f"{name}: alternating")
        found, _ = lnfree.benchmarks("bench_training_step", f"^{name}$")
        if "speedup" in found[name]:
            results["in_turn"][name] = found[name]
    if with_primitives:
        say("single primitives")
        found, context = lnfree.benchmarks("bench_primitives", ".")
        results["machine"].append(peak_of(context))
        results["primitives"] = {name.removesuffix("/real_time"): b for name, b in found.items()}
    results["finished"] = time.strftime("%Y-%m-%d %H:%M:%S")
    return results


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        return next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "unknown")


def peak_of(context):
    return {name: float(value) for name, value in context.items() if re.match(r"(fma_peak|triad|read)_.*_\d+$", name)}


def summary_of(results):
    """path -> the figures of the first table."""
    rows = {}
    for path, runs in results["steps"].items():
        ours = [run["none"] for run in runs["lnfree"]]
        rows[path] = {
            "tokens_per_second": median_of(ours, "tokens_per_second"),
            "gflops": median_of(ours, "gflops"),
            "peak_gflops": median_of(ours, "peak_gflops"),
            "fraction_of_peak": median_of(ours, "fraction_of_peak"),
            "pytorch_tokens_per_second": median_of(runs["pytorch"], "tokens_per_second"),
            "ratio_to_pytorch": median_of(ours, "tokens_per_second") / median_of(runs["pytorch"], "tokens_per_second"),
            "peak_rss_mb": max(run["peak_rss_mb"] for run in ours),
            "pytorch_peak_rss_mb": max(run["peak_rss_mb"] for run in runs["pytorch"]),
            "observer_cost": median_of(results["observer_cost"][path], "cost"),
            "others_cores": runs["others_cores"],
        }
    return rows


def goal_of(what, value, goal, more=True):
    """A goal, and whether it was reached; `more`: more is better."""
    reached = value >= goal if more else value <= goal
    return {"what": what, "value": value, "goal": goal, "reached": reached, "sign": ">=" if more else "<="}


def goals_of(results, rows):
    """Every goal that was measured."""
    goals = []

    def add(*goal, **options):
        goals.append(goal_of(*goal, **options))

    least_share = {"gpt2": 0.70, "small": 0.65, "demo": 0.65}
    least_ratio = {"gpt2": 1.4, "small": 1.4, "demo": 1.3}
    for shape in SHAPES:
        add(f"{shape}, SM+LN+G: share of the FMA peak", rows[f"{shape}/{BASELINE}"]["fraction_of_peak"], least_share[shape])
    for shape in SHAPES:
        add(f"{shape}, SM+LN+G: speed over PyTorch's", rows[f"{shape}/{BASELINE}"]["ratio_to_pytorch"], least_ratio[shape])
    for shape in SHAPES:
        costs = [row["observer_cost"] for path, row in rows.items() if path.startswith(shape + "/")]
        add(f"{shape}: cost of observing entropy, largest of all configurations", max(costs), 0.01, more=False)
    threads = results["threads"]
    speedups = {
        "norm_free_speedup": ("{}: SM+R over SM+LN+G, alternating", 1.05),
        "thread_speedup": (f"{{}}, SM+LN+G: 1 -> {threads} threads, alternating", 0.9 * threads),
        "eigen_speedup": ("{}, SM+LN+G: EigenCpu over Cpu, alternating", 0.45),
        "bf16_speedup": ("{}, SM+LN+G: bf16 over float, alternating", 1.5),
    }
    for name, turns in results["in_turn"].items():
        kind, shape, _ = name.split("/")
        what, goal = speedups[kind]
        add(what.format(shape), turns["speedup"], goal)
    add("gpt2, SM+LN+G: peak memory in GB", rows[f"gpt2/{BASELINE}"]["peak_rss_mb"] * 1e-3, 2.5, more=False)
    for kind in ("optimizer/adamw", "norm/", "activation/", "cross_entropy/") if "primitives" in results else ():
        for shape in SHAPES:
            shares = {name: b["fraction_of_peak"] for name, b in results["primitives"].items()
                      if name.startswith(kind) and name.endswith("/" + shape)}  # fmt: skip
            name = min(shares, key=shares.get)
            add(f"{name}: share of the bound, least of its kind", shares[name], 0.8)
    return goals


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def table_of_goals(goals):
    return table(
        ["", "measured", "goal", ""],
        [[g["what"], f"{g['value']:.3f}", f"{g['sign']} {g['goal']:g}", "reached" if g["reached"] else "**missed**"]
         for g in goals],
    )  # fmt: skip


def markdown_of(results):
    rows, goals = results["summary"], results["goals"]
    threads = results["threads"]
    best = {name: max(m[name] for m in results["machine"] if name in m) for name in results["machine"][0]}
    text = f"# {results['processor']}, {threads} threads, {results['started']}\n\n"
    worst = max(row["others_cores"] for row in rows.values())
    if worst > IDLE_CORES:
        text += f"**Other programs kept up to {worst:.2f} cores busy: do not trust these figures.**\n\n"
    names = (("FMA peak, GFLOP/s", "fma_peak_gflops"), ("triad, GB/s", "triad_gbytes_per_second"),
             ("read, GB/s", "read_gbytes_per_second"))  # fmt: skip
    counts = sorted({1, threads})
    text += "## The machine\n\n"
    text += table(["", *(f"{n} thread{'s' * (n > 1)}" for n in counts)],
                  [[what, *(f"{best[f'{name}_{n}']:.1f}" for n in counts)] for what, name in names])  # fmt: skip
    text += "\n## Training steps\n\n"
    text += table(
        ["shape/configuration", "tokens/s", "GFLOP/s", "FMA peak", "share", "PyTorch tokens/s", "ratio",
         "memory, MB", "PyTorch's", "entropy costs", "others, cores"],
        [[path, f"{r['tokens_per_second']:.0f}", f"{r['gflops']:.1f}", f"{r['peak_gflops']:.1f}",
          f"{r['fraction_of_peak']:.3f}", f"{r['pytorch_tokens_per_second']:.0f}", f"{r['ratio_to_pytorch']:.2f}",
          f"{r['peak_rss_mb']:.0f}", f"{r['pytorch_peak_rss_mb']:.0f}", f"{100 * r['observer_cost']:+.1f} %",
          f"{r['others_cores']:.2f}"]
         for path, r in rows.items()],
    )  # fmt: skip
    text += "\n## Goals\n\n" + table_of_goals(goals)
    if "primitives" in results:
        text += "\n## Primitives\n\nThe memory bound is the bandwidth of a triad over as many bytes, in cache if they fit.\n\n"
        text += table(
            ["primitive/shape", "µs", "GFLOP/s", "GB/s", "share of the bound", ""],
            [[name, f"{b['real_time']:.1f}", f"{b['gflops']:.1f}", f"{b['gbytes_per_second']:.1f}",
              f"{b['fraction_of_peak']:.2f}", b["label"]] for name, b in results["primitives"].items()],
        )  # fmt: skip
    return text


def write(path, text):
    """Writes under a temporary name and renames, so that the file is never incomplete."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def main():
    parser = argparse.ArgumentParser(description="Runs lnfree's and PyTorch's benchmarks alternately.")
    parser.add_argument("--build", type=Path, required=True, help="build folder with the benchmark programs")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and results.md")
    parser.add_argument("--quick", action="store_true", help="only SM+LN+G and SM+R, without single primitives")
    options = parser.parse_args()
    started = time.monotonic()
    # Exits by an exception, so that the running program is also ended.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))

    def say(text):
        print(f"run.py: {time.monotonic() - started:5.0f} s  {text}", flush=True)

    try:
        options.out.mkdir(parents=True, exist_ok=True)
        configurations = (BASELINE, NORM_FREE) if options.quick else CONFIGURATIONS
        results = measure(Lnfree(options.build), configurations, not options.quick, say)
        results["summary"] = summary_of(results)
        results["goals"] = goals_of(results, results["summary"])
        write(options.out / "results.json", json.dumps(results, indent=2) + "\n")
        write(options.out / "results.md", markdown_of(results))
    except (BenchmarkError, OSError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    print(markdown_of(results))
    say(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
