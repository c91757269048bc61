"""The comparison on a GPU, with programs that only print made-up measurements."""

import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks/gpu"))

import compare  # noqa: E402


def fake_lnfree(_build, context, configuration, tokens):
    speed = 500e3 * (1.2 if configuration == "sm_r" else 1.0) * 128 / context
    # With norms the passes of fewer tokens are the faster ones.
    if (tokens == 32768) != (configuration == "sm_r"):
        speed /= 2
    return {"gpu": "a GPU", "batch": tokens // context, "tokens_per_second": speed, "entropy_cost": 0.0101,
            "tokens_per_second_observed": 0.99 * speed, "product_tflops": 800, "share": 0.5, "share_observed": 0.58,
            "peak_memory_gb": 9.0 * tokens / 16384}  # fmt: skip


def fake_pytorch(context, configuration, entropy, batches, first_that_fits):
    if first_that_fits:
        batches = batches[:1]
    return {"tokens_per_second": (200e3 if entropy else 400e3) * 128 / context, "batch": batches[-1], "peak_memory_gb": 20.0,
            "torch": "2.11"}  # fmt: skip


class Compare(unittest.TestCase):
    def results(self, contexts, pytorch=fake_pytorch, with_pytorch=True):
        results, kept = {"started": "today", "steps": {}}, []
        self.said = []
        with mock.patch.multiple(compare, lnfree=fake_lnfree, pytorch=mock.Mock(side_effect=pytorch)):
            compare.measure(Path("build"), contexts, ("sm_ln_g", "sm_r"), with_pytorch, results, self.said.append,
                            lambda: kept.append(compare.summary_of(results)))  # fmt: skip
            self.calls = compare.pytorch.call_args_list
        self.assertEqual(kept[-1].keys(), {f"{c}/{n}" for c in contexts for n in ("sm_ln_g", "sm_r")})
        results["summary"] = compare.summary_of(results)
        results["goals"] = compare.goals_of(results["summary"])
        return results

    def test_the_best_batch_is_looked_for_once_and_kept_in_tokens(self):
        self.results((128, 1024))
        self.assertEqual([call.args[3] for call in self.calls],
                         [[64, 128, 256]] * 2 + [[256, 128, 64]] * 2 + [[32, 16, 8]] * 4)  # fmt: skip
        self.assertEqual([call.kwargs["first_that_fits"] for call in self.calls], [False] * 2 + [True] * 6)

    def test_what_did_not_fit_is_not_tried_again(self):
        def small(context, *arguments, **options):
            return fake_pytorch(context, *arguments, **options) | {"batch": 16384 // context if context == 1024 else 256}

        self.results((128, 1024), small)
        self.assertEqual([call.args[3] for call in self.calls][4:], [[32, 16, 8]] * 2 + [[16, 8]] * 2)

    def test_lnfree_comes_first_and_goes_on_where_pytorch_fails(self):
        def failing(context, configuration, entropy, *arguments, **options):
            if entropy or configuration == "sm_ln_g":
                raise compare.BenchmarkError("pytorch_step.py took longer than 420 s.")
            return fake_pytorch(context, configuration, entropy, *arguments, **options)

        results = self.results((128, 256), failing)
        self.assertEqual([len(runs["lnfree"]) for runs in results["steps"].values()], [3] * 4)
        self.assertEqual([text.split(": ")[1] for text in self.said[:9]], ["lnfree"] * 8 + ["pytorch"])
        self.assertEqual([path for path, row in results["summary"].items() if "over_pytorch" in row], ["128/sm_r", "256/sm_r"])
        self.assertEqual(len(compare.failures_of(results)), 6)
        text = compare.markdown_of(results)
        self.assertIn("| 800 | failed |  | failed |  | 9.0 | failed | failed |", text)
        self.assertIn("\n- 128/sm_r, pytorch_entropy: pytorch_step.py took longer than 420 s.\n", text)
        self.assertNotIn("entropies on both sides", text)

    def test_lnfree_comes_again_in_its_faster_passes(self):
        steps = self.results((128,))["steps"]
        self.assertEqual([run["batch"] for run in steps["128/sm_r"]["lnfree"]], [128, 256, 256])
        self.assertEqual([run["batch"] for run in steps["128/sm_ln_g"]["lnfree"]], [128, 256, 128])

    def test_lnfree_alone(self):
        results = self.results((128,), with_pytorch=False)
        self.assertEqual(self.calls, [])
        self.assertIn("| 128/sm_r | 600 (256) | 0.500 | 594 | 0.580 | +1.0 % | 800 |  |  |  |  | 18.0 |  |  |", compare.markdown_of(results))
        self.assertNotIn("PyTorch's, no", str(results["goals"]))

    def test_goals_are_reached_or_missed(self):
        goals = {g["what"].split(":")[0]: (round(g["value"], 3), g["reached"]) for g in self.results((128,))["goals"]}
        self.assertEqual(
            goals,
            {
                "speed over PyTorch's, no entropies, least of all": (1.25, False),
                "speed over PyTorch's, entropies on both sides, least of all": (2.475, True),
                "cost of entropies on every step, largest of all": (0.01, False),
                "128/sm_r with entropies": (1.018, True),
                "128": (1.2, True),
                "128 windows of 128 tokens": (9.0, True),
            },
        )

    def test_the_table_has_a_row_for_each(self):
        text = compare.markdown_of(self.results((128,)))
        self.assertIn("| 128/sm_r | 600 (256) | 0.500 | 594 | 0.580 | +1.0 % | 800 | 400 (256) | 1.50 | 200 (256) | 2.97 | 18.0 | 20.0 |",
                      text)  # fmt: skip
        self.assertIn("**missed**", text)

    def test_products_have_a_table(self):
        results = self.results((128,))
        self.assertNotIn("## Products", compare.markdown_of(results))
        times = {"first_ms": 1.25, "ours_ms": 1.125, "best_ms": 1}
        product = {"product": "gemm 16384 x 768 x 768", "calls": 12, "best_choice": 2} | times
        text = compare.markdown_of(results | {"products": {"products": [product]} | times})
        self.assertIn("1.25 ms by cuBLASLt's first choices, 1.12 ms by lnfree's, 1.00 ms by the best", text)
        self.assertIn("| gemm 16384 x 768 x 768 | 12 | 1.250 | 1.125 | 1.000 | 3 |", text)

    def test_before_anything_is_measured_there_is_a_page_too(self):
        results = {"started": "today", "steps": {}, "summary": {}, "goals": compare.goals_of({})}
        self.assertEqual(compare.summary_of(results), {})
        self.assertEqual(results["goals"], [])
        self.assertIn("unknown GPU", compare.markdown_of(results))

    def test_without_a_gpu_it_says_so(self):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "bin/gpu_training_step_128"
            program.parent.mkdir()
            program.write_text("#!/bin/sh\necho no CUDA device >&2\nexit 4\n")
            program.chmod(0o755)
            with self.assertRaisesRegex(compare.BenchmarkError, "ended with status 4: no CUDA device"):
                compare.lnfree(Path(folder), 128, "sm_r", 16384)

    def test_results_are_json(self):
        json.dumps(self.results((128,)))


if __name__ == "__main__":
    unittest.main()
