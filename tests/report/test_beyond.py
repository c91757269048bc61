"""The sections of the experiments past the paper, on run folders with known numbers."""

import contextlib
import math
import re
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "examples" / "reproduce")]

import figures
import private_inference
import report
import synthetic
import unrendered
from experiments import distillation, removal, sparsity, tapering, tuned

LAYERS = synthetic.LAYER_ENTROPY


class BeyondTest(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = Path(place.name) / "run"
        synthetic.write_root(self.folder)

    def write(self, spec, perplexity, **changes):
        layers = LAYERS.get(spec.config, LAYERS["sm_r"])
        synthetic.write_run(self.folder, spec, perplexity, layers, **changes)

    def report(self, rendered=False):
        """The text of the report, including line ends."""
        with contextlib.nullcontext() if rendered else mock.patch.object(figures, "save", unrendered.save):
            report.write_report(self.folder)
        text = (self.folder / "report.md").read_text()
        self.assertNotIn("nan", text.lower().replace("finance", ""))
        return text

    def section(self, title, rendered=False):
        return self.report(rendered).split(f"## {title}")[1].split("\n## ")[0]

    def cells(self, text, first):
        line = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
        return [cell.strip().strip("*") for cell in line.split("|")[2:-1]]

    def write_tuned(self):
        """Perplexities by configuration, seed and rate; the first half is always 2 % above the whole."""
        search = {
            "sm_ln_g": {1: 27.0, 2: 25.0, 4: 24.6, 8: 26.0},
            "sm_g": {1: 30.0, 2: 28.0, 4: None},
            "sm_r": {0.5: 40.0, 1: 24.0, 2: 25.0, 4: 26.0},
        }
        for config, of_rate in search.items():
            for factor, perplexity in of_rate.items():
                spec = synthetic.spec_of(config, 0, rate_factor=factor)
                self.write(spec, perplexity, first_half=perplexity and 1.02 * perplexity)
        for config, factor, own in (("sm_ln_g", 4, 25.6), ("sm_g", 2, 29.0)):
            self.write(synthetic.spec_of(config, 1), search[config][1] + 2, first_half=30.0)
            self.write(synthetic.spec_of(config, 1, rate_factor=factor), own, first_half=1.02 * own)
        self.write(synthetic.spec_of("sm_r", 1), 24.5, first_half=24.99)
        return search

    def test_tuned(self):
        self.write_tuned()
        text = self.section("Each configuration at its own learning rate", rendered=True)
        self.assertEqual(self.cells(text, "SM + LN + G"), ["–", "27.54", "25.50", "25.09", "26.52"])
        self.assertEqual(self.cells(text, "SM + G"), ["–", "30.60", "28.56", "diverged", "–"])
        self.assertEqual(self.cells(text, "SM + R"), ["40.80", "24.48", "25.50", "26.52", "–"])
        second = text[text.index("| PPL on the second half") :]
        # The second half of 24.6 and 25.6, whose first halves are 2 % above them, is 1.02 below them.
        own = [24.6 / 1.02, 25.6 / 1.02]
        self.assertEqual(self.cells(second, "SM + LN + G")[0], "4 x")
        self.assertEqual(self.cells(second, "SM + LN + G")[2], f"{sum(own) / 2:.2f} ± {0.5**0.5 / 1.02:.2f}")
        self.assertEqual(self.cells(second, "SM + R")[0], "1 x")
        self.assertEqual(self.cells(second, "SM + R")[3], "+0.00 ± 0.00")
        self.assertIn("the order by perplexity is SM + R < SM + LN + G < SM + G;", text)
        # (24 / 24.6 + 24.5 / 25.6) / 2 and (24 / 28 + 24.5 / 29) / 2
        self.assertRegex(text, r"SM \+ R is 3\.4 % below SM \+ LN \+ G \(")
        self.assertRegex(text, r"SM \+ R is 14\.9 % below SM \+ G \(")
        # The next best: 25.5 to 25.09, 30.6 to 28.56, 25.5 to 24.48.
        self.assertIn("is 1.6 to 7.1 % worse", text)
        self.assertTrue((self.folder / "figures" / "tuned.png").exists())

    def test_a_search_that_has_not_ended_is_not_told(self):
        for factor, perplexity in ((1, 27.0), (2, 25.0), (4, 24.0)):
            spec = synthetic.spec_of("sm_r", 0, rate_factor=factor)
            self.write(spec, perplexity, first_half=perplexity)
        self.assertNotIn("own learning rate", self.report())

    def test_the_search(self):
        """The search finds the minimum of a convex loss; it also ends for losses that keep falling."""

        def found(loss_of):
            known = {}
            while True:
                factors, best = tuned.search(known.get)
                new = [factor for factor in factors if factor not in known]
                if not new:
                    return factors, best
                known |= {factor: loss_of(factor) for factor in new}

        for optimum in (0.25, 0.5, 1, 2, 4, 8):
            factors, best = found(lambda factor: abs(math.log2(factor / optimum)))
            self.assertEqual(best, optimum)
            self.assertTrue(factors[0] < best < factors[-1], factors)
        self.assertEqual(found(lambda factor: -factor), ([1, 2, 4, 8, 16, 32, 64], 64))
        self.assertEqual(found(lambda factor: factor), ([1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4], 1 / 16))
        # Diverged runs are worst; if all diverge, there is no rate.
        self.assertEqual(found(lambda factor: 1 if factor == 0.5 else math.inf)[1], 0.5)
        self.assertEqual(found(lambda factor: math.inf)[1], None)

    def write_removal(self, tapered, seeds=(0, 1)):
        """Runs around SM + LN + G; `tapered` are perplexities by seed, None for a diverged run."""
        options = tuple({"steps": 976, "learning_rate": 1e-3, "eval_every": 122}.items())
        for seed in seeds:
            base = synthetic.spec_of("sm_ln_g", seed)
            self.write(base, 27.0)
            self.write(synthetic.spec_of("sm_g", seed), 31.0)
            self.write(synthetic.spec_of("sm_g", seed, options=(("steps", 4882),)), 30.0)
            for config, perplexity in (("sm_ln_g", 25.0), ("sm_ln_g_tapered", tapered[seed]), ("sm_ln_g_staged", 28.0)):
                spec = synthetic.spec_of(config, seed, options=options, init_from=base)
                gate = None if config == "sm_ln_g" else lambda part: 1 - part
                self.write(spec, perplexity, gate=gate)

    def test_removal(self):
        self.write_removal({0: 26.0, 1: 27.0})
        text = self.section("Removing the norms of a trained model", rendered=True)
        kept = self.cells(text, "SM + LN + G, trained on, norms kept")
        self.assertEqual(kept, ["10.0 M", "25.00 ± 0.00", "0"])
        tapered = self.cells(text, "SM + LN + G, trained on, norms tapered")
        self.assertEqual(tapered[1:], ["26.50 ± 0.71", "+6.00 ± 2.83"])
        self.assertEqual(self.cells(text, "SM + G, from scratch, same total tokens"), ["10.0 M", "30.00 ± 0.00", "+20.00 ± 0.00"])
        # (26 / 25 + 27 / 25) / 2 and (26 / 30 + 27 / 30) / 2
        self.assertIn("is 6.0 % above its control at best (norms tapered), and 11.7 % below SM + G from scratch", text)
        self.assertTrue((self.folder / "figures" / "removal.png").exists())

    def test_removed_norms_cost_nothing_in_private_inference(self):
        self.assertEqual(private_inference.counts("sm_ln_r_tapered", "demo"), private_inference.counts("sm_r", "demo"))

    def test_a_removal_that_diverged_is_left_out(self):
        self.write_removal({0: None}, seeds=(0,))
        text = self.section("Removing the norms of a trained model")
        self.assertIn("diverged** and is left out", text)
        self.assertIn("is 12.0 % above its control at best (norms removed one by one)", text)

    def test_a_removal_needs_its_control(self):
        base = synthetic.spec_of("sm_ln_g", 0)
        self.write(base, 27.0)
        self.write(synthetic.spec_of("sm_ln_g_tapered", 0, options=(("steps", 976),), init_from=base), 26.0)
        self.assertNotIn("Removing the norms", self.report())

    def write_tapering(self, tapered, seeds=(0, 1), **spec):
        for seed in seeds:
            self.write(synthetic.spec_of("sm_ln_g", seed, **spec), 25.0)
            self.write(synthetic.spec_of("sm_g", seed, **spec), 30.0)
            gone = synthetic.spec_of("sm_ln_g_tapered", seed, options=tuple(tapering.OPTIONS.items()), **spec)
            self.write(gone, tapered[seed], gate=lambda part: 1 - part)

    def test_tapering(self):
        self.write_tapering({0: 26.0, 1: 27.0})
        text = self.section("Norms that taper off during training", rendered=True)
        self.assertEqual(self.cells(text, "SM + LN + G"), ["25.00 ± 0.00", "0", "−16.67 ± 0.00"])
        self.assertEqual(self.cells(text, "SM + LN + G, tapered"), ["26.50 ± 0.71", "+6.00 ± 2.83", "−11.67 ± 2.36"])
        self.assertEqual(self.cells(text, "SM + G"), ["30.00 ± 0.00", "+20.00 ± 0.00", "0"])
        self.assertIn("SM + LN + G whose norms taper off is 6.0 % above SM + LN + G that keeps them, and 11.7 % below SM + G,", text)
        self.assertNotIn("SM + LN + R", text)
        self.assertIn("the final LayerNorm stays", text)
        self.assertTrue((self.folder / "figures" / "tapering.png").exists())

    def test_a_recipe_without_a_final_norm(self):
        for recipe in ("clean", "clean_untied"):
            self.write_tapering({0: 26.0}, seeds=(0,), recipe=recipe)
            text = self.section(f"Norms that taper off during training ({recipe} recipe)")
            self.assertIn("only one was tried, at one learning rate.", text)

    def test_tapering_that_diverged_is_not_compared(self):
        self.write_tapering({0: None}, seeds=(0,))
        text = self.section("Norms that taper off during training")
        self.assertEqual(self.cells(text, "SM + LN + G, tapered")[0], "diverged")
        self.assertNotIn("taper off is", text)

    def write_distilled(self, taught, seeds=(0, 1), **perplexities):
        values = {"sm_ln_g": (27.0, 27.5), "sm_r": (29.0, 28.5)} | perplexities
        for seed in seeds:
            teacher = synthetic.spec_of("sm_ln_g", seed)
            options = tuple(distillation.OPTIONS.items())
            spec = synthetic.spec_of("sm_r_distilled", seed, options=options, teacher=teacher)
            self.write(teacher, values["sm_ln_g"][seed])
            self.write(synthetic.spec_of("sm_r", seed), values["sm_r"][seed])
            self.write(spec, taught[seed])

    def test_distillation(self):
        """Shares of the gap by hand: 1 of 2 and 0.75 of 1."""
        self.write_distilled((28.0, 27.75))
        text = self.section("Distillation", rendered=True)
        self.assertIn("teaching closes 62 ± 18 % of the gap", text)
        self.assertEqual(self.cells(text, "SM + R, distilled")[0], "27.88 ± 0.18")
        self.assertEqual(self.cells(text, "SM + R, distilled")[1], f"−{100 * (1 / 29 + 0.75 / 28.5) / 2:.2f} ± 0.58")
        self.assertRegex(text, r"has 1\.00 ± 0\.00 times the speed")
        self.assertTrue((self.folder / "figures" / "distillation.png").exists())
        # Its runs are not those of the main table.
        self.assertNotIn("distilled", self.report().split("## Perplexity on held-out files")[1].split("\n## ")[0])

    def test_distillation_that_does_not_help(self):
        self.write_distilled((30.0, 30.0))
        self.assertIn("teaching widens the gap, by 100 %", self.section("Distillation"))

    def test_distillation_by_a_teacher_that_is_behind(self):
        self.write_distilled((28.0, 28.0), sm_r=(29.0, 27.0))
        self.assertIn("a share of the gap is not defined", self.section("Distillation"))

    def test_distillation_with_a_diverged_run(self):
        self.write_distilled((28.0, None))
        text = self.section("Distillation")
        self.assertIn("seed 1 diverged** and is left out", text)
        self.assertIn("teaching closes 50 % of the gap", text)
        self.assertEqual(text.count("**Found:**"), 1)

    def test_hybrids(self):
        values = {
            "sm_g": (31.0, 32.0),
            "sm_r": (29.0, 30.0),
            "sm_relu_gelu": (28.0, 30.0),
            "sm_gelu_relu": (33.0, 34.0),
        }
        for config, perplexities in (values | {"sm_alternating": (30.5, 31.5)}).items():
            for seed, perplexity in enumerate(perplexities):
                self.write(synthetic.spec_of(config, seed), perplexity)
        text = self.section("Hybrid activations", rendered=True)
        self.assertEqual(self.cells(text, "SM + R, then G")[:2], ["RRRRGGGG", "29.00 ± 1.41"])
        self.assertEqual(self.cells(text, "SM + R, G in turn")[0], "RGRGRGRG")
        self.assertEqual(self.cells(text, "SM + G, then R")[0], "GGGGRRRR")
        self.assertEqual(self.cells(text, "SM + R")[3], "0")
        self.assertIn(
            "the best mixture is SM + R, then G, 8.0 % below SM + G and 1.7 % below SM + R, within one standard deviation of "
            "zero; the order by perplexity is SM + R, then G < SM + R < SM + R, G in turn < SM + G < SM + G, then R.",
            text,
        )
        self.assertIn("of one configuration's seeds deviate by up to 1.41.", text)
        self.assertTrue((self.folder / "figures" / "hybrid.png").exists())

    def test_sparsity(self):
        for seed in (0, 1):
            shares = {0.0: 0.6, 1e-4: 0.7, 1e-3: 0.85, 1e-2: 0.97}
            for penalty, share in shares.items():
                config = "sm_r_sparse" if penalty else "sm_r"
                options = (("hidden_penalty", penalty),) if penalty else ()
                zeros = [share + 0.01 * seed] * 8
                perplexity = {0.0: 30.0, 1e-4: 29.7, 1e-3: 30.15, 1e-2: 36.0}[penalty]
                self.write(synthetic.spec_of(config, seed, options=options), perplexity, zeros=zeros)
        text = self.section("Sparsity", rendered=True)
        self.assertEqual(self.cells(text, "none")[:4], ["30.00 ± 0.00", "0", "60.5 ± 0.7", "60.5"])
        self.assertEqual(self.cells(text, "1e-3")[1:3], ["+0.50 ± 0.00", "85.5 ± 0.7"])
        self.assertIn("where 60.5 ± 0.7 % of the hidden units are zero without a penalty, 1e-3 is the strongest", text)
        self.assertIn(
            "85.5 ± 0.7 % zeros at +0.5 % perplexity; 1e-2 gives 97.5 ± 0.7 % zeros at +20.0 % perplexity.", text
        )
        self.assertTrue((self.folder / "figures" / "sparsity.png").exists())

    def test_sparsity_that_is_never_cheap(self):
        self.write(synthetic.spec_of("sm_r", 0), 30.0, zeros=[0.6] * 8)
        penalized = synthetic.spec_of("sm_r_sparse", 0, options=(("hidden_penalty", sparsity.PENALTIES[0]),))
        self.write(penalized, 33.0, zeros=[0.9] * 8)
        diverged = synthetic.spec_of("sm_r_sparse", 0, options=(("hidden_penalty", 1e-3),))
        self.write(diverged, None)
        text = self.section("Sparsity")
        self.assertIn("each penalty costs more than 1 %: 1e-4 gives 90.0 % zeros at +10.0 % perplexity", text)
        self.assertIn("hidden penalty 0.001, seed 0 diverged** and is left out", text)
        self.assertFalse(re.search(r"inf\b", text))


if __name__ == "__main__":
    unittest.main()
