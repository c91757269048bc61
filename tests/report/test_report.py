"""report.py on run folders with known numbers: the tables, the sentences computed from them, the figures."""

import json
import math
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "examples")]

import matplotlib.image
import report
import synthetic

FIGURES = ["entropy_heatmaps", "entropy_quarters", "evaluation_loss", "layer_entropy"]


class ReportTest(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = Path(place.name) / "run"

    def write(self, **arguments):
        """Writes a synthetic folder and its report; returns (results, text of the report)."""
        synthetic.write_folder(self.folder, **arguments)
        return self.report()

    def report(self):
        report.write_report(self.folder)

        def no_constant(name):
            self.fail(f"results.json holds {name}, which is not JSON")

        results = json.loads((self.folder / "results.json").read_text(), parse_constant=no_constant)
        return results, (self.folder / "report.md").read_text()

    def change(self, name, **changes):
        path = self.folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def row(self, text, first, table=0):
        """Cells after the first of the table row that starts with `first`, in the table-th table that has
        one."""
        lines = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
        return [cell.strip().strip("*") for cell in lines[table].split("|")[2:-1]]

    def test_results(self):
        results, _ = self.write()
        self.assertEqual((results["scale"], results["seed"]), ("demo", 3))
        self.assertEqual(results["corpus"]["sources"]["packages"][0]["package"], "python3-pandas")
        runs = {run["config"]: run for run in results["runs"]}
        self.assertEqual(list(runs), ["sm_ln_g", "sm_ln_r", "sm_g", "sm_r"])
        self.assertEqual((runs["sm_g"]["norm"], runs["sm_g"]["activation"]), ("Identity", "GELU"))
        self.assertEqual((runs["sm_ln_r"]["norm"], runs["sm_ln_r"]["activation"]), ("LayerNorm", "ReLU"))
        self.assertEqual(runs["sm_ln_g"]["delta_percent"], 0)
        self.assertAlmostEqual(runs["sm_g"]["delta_percent"], 100 * (30.12 / 26.96 - 1))
        self.assertEqual(runs["sm_r"]["tokens"], 3906 * 16 * 128)
        self.assertEqual(runs["sm_r"]["seconds"], 700.5)
        self.assertTrue(11000 <= runs["sm_r"]["tokens_per_second"] <= 11006)
        self.assertEqual(runs["sm_r"]["head_entropy"], synthetic.heads_of(synthetic.LAYER_ENTROPY["sm_r"]))
        self.assertLessEqual(
            {
                "config",
                "norm",
                "activation",
                "parameters",
                "steps",
                "tokens",
                "eval_loss",
                "perplexity",
                "delta_percent",
                "tokens_per_second",
                "seconds",
                "head_entropy",
                "nonfinite_rows",
            },
            set(runs["sm_r"]),
        )

    def test_tables(self):
        _, text = self.write()
        self.assertEqual(self.row(text, "SM + G"), ["30.12", "+11.72", "3.197", "+18.92", "4.086", "+16.35"])
        self.assertEqual(self.row(text, "SM + LN + G"), ["26.96", "0.00", "2.688", "0.00", "3.512", "0.00"])
        self.assertEqual(self.row(text, "python3-pandas"), ["1.5.3", "321", "7,654,321"])
        self.assertEqual(self.row(text, "tokens"), ["8,560,000", "256,000"])
        layers = self.row(text, "SM + LN + R", table=2)
        self.assertEqual(layers, [f"{mean:.2f}" for mean in synthetic.LAYER_ENTROPY["sm_ln_r"]])

    def test_quarters(self):
        """Counted by hand: E_max 4 of the second run makes the quarters' edges 1, 2 and 3; the last quarter
        is closed."""
        synthetic.write_folder(self.folder, configs=("sm_g", "sm_r"))
        self.change(
            "sm_g/evaluation.json", head_entropy=[[0.5, 0.99, 1.0, 1.5]] * 4 + [[2.0, 2.5, 2.99, 3.0]] * 4
        )
        self.change("sm_r/evaluation.json", head_entropy=[[4.0, 3.5, 0.1, None]] * 8)
        _, text = self.report()
        self.assertEqual(self.row(text, "SM + G", table=1)[::2], ["25 %", "25 %", "38 %", "12 %"])
        self.assertEqual(self.row(text, "SM + R", table=1)[::2], ["33 %", "0 %", "0 %", "67 %"])

    def test_findings_follow_the_numbers(self):
        _, text = self.write()
        self.assertIn("This **is** the paper's order", text)
        self.assertIn(
            "SM + R is **4.9 % below** SM + G, the same direction as in the paper (GPT-2: 8.2 % below; "
            "Pythia-70M: 8.6 % below)",
            text,
        )
        self.assertIn("SM + LN + R is **1.8 % above** SM + LN + G", text)
        self.assertIn("entropic overload with GELU **shows**", text)
        self.assertRegex(text, r"top quarter: SM \+ G with 69 %; as in the paper")

    def test_findings_follow_opposite_numbers(self):
        entropy = synthetic.LAYER_ENTROPY
        _, text = self.write(
            perplexity={"sm_g": 20.0}, entropy={"sm_g": entropy["sm_r"], "sm_r": entropy["sm_g"]}
        )
        self.assertIn(
            "Order by perplexity: SM + G < SM + LN + G < SM + LN + R < SM + R. This is **not** the paper's",
            text,
        )
        self.assertIn("SM + R is **43.2 % above** SM + G, the opposite of the paper", text)
        self.assertIn("**opposite** of the paper's entropic overload", text)
        self.assertIn("SM + R with 69 %; in the paper it is SM + G", text)
        self.assertNotIn("**is** the paper's order", text)

    def test_equal_entropies_show_nothing(self):
        same = synthetic.LAYER_ENTROPY["sm_g"]
        _, text = self.write(entropy={config: same for config in synthetic.PERPLEXITY})
        self.assertIn("does **not** show", text)
        self.assertNotIn("as in the paper.", text)

    def test_every_number_of_configurations(self):
        for count, configs in enumerate(
            (
                ("sm_r",),
                ("sm_g", "sm_r"),
                ("sm_ln_g", "sm_g", "sm_r"),
                ("sm_ln_g", "sm_ln_r", "sm_g", "sm_r"),
            ),
            1,
        ):
            with self.subTest(configs=configs):
                self.folder = self.folder.with_name(f"run{count}")
                results, text = self.write(configs=configs)
                self.assertEqual([run["config"] for run in results["runs"]], list(configs))
                deltas = [run["delta_percent"] for run in results["runs"]]
                self.assertEqual(None in deltas, "sm_ln_g" not in configs)
                self.assertEqual(sorted(re.findall(r"\(figures/(\w+)\.png\)", text)), FIGURES)
                for name in FIGURES:
                    image = matplotlib.image.imread(self.folder / "figures" / f"{name}.png")
                    self.assertGreater(image.shape[1], 400)
                    self.assertGreater(
                        len(set(map(tuple, image[::7, ::7].reshape(-1, image.shape[2]).tolist()))), 10
                    )

    def test_diverged_run_is_told(self):
        results, text = self.write(perplexity={"sm_g": None})
        self.change("sm_g/evaluation.json", nonfinite_rows=77, head_entropy=[[None] * 4] * 8)
        results, text = self.report()
        runs = {run["config"]: run for run in results["runs"]}
        self.assertIsNone(runs["sm_g"]["perplexity"])
        self.assertIsNone(runs["sm_g"]["delta_percent"])
        self.assertEqual(self.row(text, "SM + G")[:2], ["diverged", "–"])
        self.assertIn("**SM + G diverged**", text)
        self.assertIn("77 attention rows", text)
        self.assertIn("no comparison, SM + G diverged", text)
        self.assertNotIn("nan", text.lower())

    def test_diverged_baseline(self):
        results, text = self.write(perplexity={"sm_ln_g": None})
        self.assertEqual({run["delta_percent"] for run in results["runs"]}, {None})
        self.assertNotIn("nan", text.lower())

    def test_everything_diverged(self):
        synthetic.write_folder(self.folder, perplexity={config: None for config in synthetic.PERPLEXITY})
        for config in synthetic.PERPLEXITY:
            self.change(f"{config}/evaluation.json", head_entropy=[[None] * 4] * 8)
        _, text = self.report()
        self.assertIn("No head has a finite entropy", text)

    def test_smoke_says_what_it_is(self):
        _, text = self.write(scale="smoke")
        self.assertIn("shows nothing but that the path works", text)
        self.assertNotIn("trials of this recipe", text)

    def test_logs_of_a_crashed_and_resumed_run(self):
        synthetic.write_folder(self.folder, configs=("sm_r",))
        with open(self.folder / "sm_r" / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write('{"kind":"train","ste')
            file.write('\n{"kind":"eval","step":488,"eval_loss":1.25,"perplexity":3.49}\n')
        run = report.read_folder(self.folder)[2][0]
        steps = [step for step, _ in run.evaluations]
        self.assertEqual(steps, sorted(set(steps)))
        self.assertIn((488, 1.25), run.evaluations)
        self.assertEqual(run.evaluations[-1], (3906, math.log(28.64)))

    def test_unfinished_run_is_left_out_and_named(self):
        synthetic.write_folder(self.folder, configs=("sm_g", "sm_r"))
        (self.folder / "sm_r" / "evaluation.json").unlink()
        results, text = self.report()
        self.assertEqual([run["config"] for run in results["runs"]], ["sm_g"])
        self.assertIn("left out: SM + R", text)

    def test_bad_folders(self):
        def fails_with(words):
            job = subprocess.run(
                [sys.executable, report.__file__, "--run-dir", self.folder],
                text=True,
                capture_output=True,
                check=False,
            )
            self.assertEqual(job.returncode, 1)
            self.assertEqual(len(job.stderr.splitlines()), 1, job.stderr)
            self.assertIn(words, job.stderr)

        fails_with("settings.json is missing")
        synthetic.write_folder(self.folder, configs=("sm_g", "sm_r"))
        evaluation = self.folder / "sm_g" / "evaluation.json"
        whole = evaluation.read_text()
        evaluation.write_text(whole[:40])
        fails_with("not valid JSON")
        evaluation.write_text(json.dumps({"eval_loss": 1}))
        fails_with("has no")
        evaluation.write_text(json.dumps(json.loads(whole) | {"head_entropy": [[1, 2], [3]]}))
        fails_with("not a table of layers by heads")
        evaluation.write_text(json.dumps(json.loads(whole) | {"head_entropy": [[1, 2], [3, 4]]}))
        fails_with("disagree")
        for config in ("sm_g", "sm_r"):
            (self.folder / config / "evaluation.json").unlink()
        fails_with("no evaluated configuration")


if __name__ == "__main__":
    unittest.main()
