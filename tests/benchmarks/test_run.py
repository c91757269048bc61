"""The table of the benchmarks, with programs that only print made-up measurements."""

import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import run  # noqa: E402

# tokens_per_second of SM+LN+G in each round; SM+R is 6 % faster.
SPEED = {"gpt2": [200, 220], "small": [4000, 4000], "demo": [10000, 10000]}
CONFIGURATIONS = ("sm_ln_g", "sm_r")


class FakeLnfree(run.Lnfree):
    def __init__(self):
        self.calls = []

    def benchmarks(self, program, pattern):
        self.calls.append((program, pattern))
        if program == "bench_primitives":
            kinds = {"optimizer/adamw": 0.9, "norm/forward": 0.8, "norm/backward": 0.7, "activation/relu/forward": 0.9,
                     "cross_entropy/forward": 1.0, "bias/forward": 0.1}  # fmt: skip
            found = {f"{kind}/{shape}/real_time": {"real_time": 1.5, "gflops": 2, "gbytes_per_second": 3,
                                                   "fraction_of_peak": share, "label": "memory-bound"}
                     for kind, share in kinds.items() for shape in SPEED}  # fmt: skip
            return found, {}
        if "speedup" in pattern:
            name = pattern.removeprefix("^").removesuffix("$")
            return {name: {"speedup": {"bf16": 1.6, "norm": 1.04, "thread": 1.9, "eigen": 0.6}[name.split("_")[0]]}}, {}
        shape, configuration = pattern.split(")/")[-1].split("/")[:2]
        configuration = configuration.split("(")[0]
        number = sum(pattern == call[1] for call in self.calls) - 1
        speed = SPEED[shape][number] * (1.06 if configuration == "sm_r" else 1.0)
        step = {"tokens_per_second": speed, "gflops": speed, "peak_gflops": 300.0, "fraction_of_peak": speed / 300,
                "peak_rss_mb": 2000 + number, "parameters": 5}  # fmt: skip
        found = {f"training_step/{shape}/{configuration}/{o}": step for o in ("none", "entropy")}
        found[f"observer_cost/{shape}/{configuration}"] = {"cost": 0.02 if configuration == "sm_r" else 0.0}
        context = {f"{name}_{n}": str(100.0 * n) for n in (1, 2)
                   for name in ("fma_peak_gflops", "triad_gbytes_per_second", "read_gbytes_per_second")}  # fmt: skip
        return found, context

    def has(self, program, name):
        return name == "bf16_speedup/gpt2/sm_ln_g"

    def blas_folder(self):
        return None


def fake_pytorch(shape, configuration, _blas_folder, parameters=5):
    return {"tokens_per_second": SPEED[shape][0] / 1.35, "peak_rss_mb": 3000, "parameters": parameters}


class Run(unittest.TestCase):
    def results(self, others=0.0, **changes):
        with mock.patch.object(run, "pytorch", lambda *a: fake_pytorch(*a, **changes)), mock.patch.object(
            run.OthersWork, "worst", return_value=others
        ), mock.patch.object(run.os, "sched_getaffinity", return_value={0, 1}):
            results = run.measure(FakeLnfree(), CONFIGURATIONS, True, lambda text: None)
        results["summary"] = run.summary_of(results)
        results["goals"] = run.goals_of(results, results["summary"])
        return results

    def test_figures_are_medians_of_the_rounds(self):
        row = self.results()["summary"]["gpt2/sm_ln_g"]
        self.assertAlmostEqual(row["tokens_per_second"], 210)
        self.assertAlmostEqual(row["fraction_of_peak"], 0.7)
        self.assertAlmostEqual(row["ratio_to_pytorch"], 210 / 200 * 1.35)
        self.assertEqual(row["peak_rss_mb"], 2001)

    def test_goals_are_reached_or_missed(self):
        reached = {g["what"]: g["reached"] for g in self.results()["goals"]}
        self.assertEqual(
            reached,
            {
                "gpt2, SM+LN+G: share of the FMA peak": True,
                "small, SM+LN+G: share of the FMA peak": True,
                "demo, SM+LN+G: share of the FMA peak": True,
                "gpt2, SM+LN+G: speed over PyTorch's": True,
                "small, SM+LN+G: speed over PyTorch's": False,
                "demo, SM+LN+G: speed over PyTorch's": True,
                "gpt2: cost of observing entropy, largest of all configurations": False,
                "small: cost of observing entropy, largest of all configurations": False,
                "demo: cost of observing entropy, largest of all configurations": False,
                "gpt2: SM+R over SM+LN+G, alternating": False,
                "small: SM+R over SM+LN+G, alternating": False,
                "demo: SM+R over SM+LN+G, alternating": False,
                "gpt2, SM+LN+G: 1 -> 2 threads, alternating": True,
                "small, SM+LN+G: 1 -> 2 threads, alternating": True,
                "gpt2, SM+LN+G: EigenCpu over Cpu, alternating": True,
                "small, SM+LN+G: EigenCpu over Cpu, alternating": True,
                "gpt2, SM+LN+G: bf16 over float, alternating": True,
                "gpt2, SM+LN+G: peak memory in GB": True,
            }
            | {
                f"{name}/{shape}: share of the bound, least of its kind": name != "norm/backward"
                for name in ("optimizer/adamw", "norm/backward", "activation/relu/forward", "cross_entropy/forward")
                for shape in SPEED
            },
        )

    def test_the_table_says_what_was_missed_and_when_the_machine_was_busy(self):
        results = self.results()
        text = run.markdown_of(results)
        self.assertIn("| gpt2/sm_ln_g | 210 | 210.0 | 300.0 | 0.700 | 148 | 1.42 | 2001 | 3000 | +0.0 % | 0.00 |", text)
        self.assertIn("| small, SM+LN+G: speed over PyTorch's | 1.350 | >= 1.4 | **missed** |", text)
        self.assertIn("| bias/forward/demo | 1.5 |", text)
        self.assertNotIn("do not trust", text)
        self.assertIn("1.20 cores busy: do not trust", run.markdown_of(self.results(others=1.2)))

    def test_models_of_different_size_are_refused(self):
        with self.assertRaisesRegex(run.BenchmarkError, "same number of parameters"):
            self.results(parameters=6)

    def test_a_program_that_fails_is_named_with_its_words(self):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "bench_training_step"
            program.write_text("#!/bin/sh\necho no memory >&2\nexit 3\n")
            program.chmod(0o755)
            with self.assertRaisesRegex(run.BenchmarkError, "bench_training_step ended with status 3: no memory"):
                run.output_of([program])

    def test_the_work_of_others_is_counted_in_cores(self):
        others = run.OthersWork()
        with mock.patch.object(run.OthersWork, "_seconds", side_effect=[10.0, 13.0]), mock.patch.object(
            run.time, "monotonic", side_effect=[5.0, 7.0]
        ):
            self.assertEqual(others.during(lambda: "done"), "done")
        self.assertEqual(others.cores, [1.5])

    def test_results_are_json(self):
        json.dumps(self.results())


if __name__ == "__main__":
    unittest.main()
