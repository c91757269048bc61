"""How the trainers use the available memory: the plan, and the batch chosen from it."""

import json
import unittest

from trainer_program import TrainerTest, content


class Memory(TrainerTest):
    """The memory that a run needs, that its device has, and the resulting batch."""

    RESERVE = 500_000_000
    STEPS = 40

    def plan(self, *arguments, limit=None):
        report = self.folder / "plan.json"
        output = self.succeed("--plan-only", "--threads", 1, "--json", report, *arguments, limit=limit).stdout
        plan = json.loads(report.read_text())
        report.unlink()
        self.assertIn(f"total {plan['bytes']['total'] / 1e6:.1f} MB", output)
        self.assertIn(f"batch: {plan['batch_size']} windows", output)
        return plan

    def limit_between(self, batch, more, besides=0):
        """A limit in which passes of `batch` windows fit, with that many extra bytes, and passes of `more` do
        not."""
        totals = [self.plan("--batch-size", size)["bytes"]["total"] if size else 0 for size in (batch, more)]
        generous = 2_000_000_000
        used = generous - self.plan(limit=generous)["free_bytes"]
        return used + besides + sum(totals) // 2

    def training(self, out, *more):
        return ["--train", self.train, "--out", out, "--steps", self.STEPS, "--threads", 1, "--eval-every", 0,
                "--observe-every", 0, "--log-every", 1, *more]  # fmt: skip

    def test_plan(self):
        before = content(self.folder)
        small, large = (self.plan("--batch-size", batch, "--accumulate", 3) for batch in (2, 32))
        self.assertEqual(content(self.folder), before)
        for plan, batch in ((small, 2), (large, 32)):
            parts = dict(plan["bytes"])
            self.assertEqual(parts.pop("total"), sum(parts.values()))
            self.assertEqual((plan["batch_size"], plan["accumulate"]), (batch, 3))
            self.assertEqual(parts["optimizer"], 2 * parts["gradients"])
        self.assertGreater(large["bytes"]["activations"], 8 * small["bytes"]["activations"])
        self.assertIn("1 thread", small["device"])
        self.assertGreater(small["free_bytes"], small["bytes"]["total"])
        limit = 900_000_000
        free = self.plan(limit=limit)["free_bytes"]
        self.assertTrue(limit / 2 < free < limit, free)

    def test_too_large_a_batch(self):
        limit = self.limit_between(8, 16)
        out = self.folder / "run"
        batch = ["--batch-size", 32, "--accumulate", 3]
        self.refuse(*self.training(out, *batch), limit=limit,
                    says=["32 windows in a pass", "--batch-size 8", "--accumulate 12"])  # fmt: skip
        self.refuse("--train", self.train, "--profile", 1, "--threads", 1, *batch, limit=limit, says=["--batch-size 8"])
        limit = self.limit_between(0, 1)
        self.refuse(*self.training(out, "--batch-size", 4), limit=limit, says=["4 windows", "no smaller batch fits"])
        self.refuse(*self.training(out, "--step-windows", 4), limit=limit, says=["1 windows", "no smaller batch fits"])

    def test_a_step_of_windows(self):
        plans = {windows: self.plan("--step-windows", windows) for windows in (1, 12, 37)}
        for windows, plan in plans.items():
            self.assertEqual((plan["batch_size"], plan["accumulate"]), (windows, 1))
        limit = self.limit_between(4, 6, self.RESERVE)
        plan = self.plan("--step-windows", 12, limit=limit)
        self.assertEqual((plan["batch_size"], plan["accumulate"]), (4, 3))
        plan = self.plan("--step-windows", 12, "--batch-size", 3)
        self.assertEqual((plan["batch_size"], plan["accumulate"]), (3, 4))
        self.refuse("--plan-only", "--step-windows", 12, "--batch-size", 5, says=["12 is not a multiple of --batch-size 5"])
        self.refuse("--plan-only", "--step-windows", 12, "--accumulate", 4, says=["--step-windows", "--accumulate"])

    def test_a_run_goes_on_with_its_batch(self):
        """Whatever memory is then available."""
        whole, run = self.folder / "whole", self.folder / "run"
        self.succeed(*self.training(whole, "--batch-size", 2, "--accumulate", 2))
        step = ["--step-windows", 4]
        program = self.start(*self.training(run, *step), limit=self.limit_between(2, 4, self.RESERVE))
        program.terminate()
        program.stdout.read()
        self.assertEqual(program.wait(60), 143, program.stderr.read())
        course = json.loads((run / "checkpoint" / "trainer.json").read_text())["course"]
        self.assertEqual((course["batch_size"], course["accumulate"]), (2, 2))
        self.assertEqual(self.plan(*step)["batch_size"], 4)
        self.assertEqual(self.plan(*step, "--resume", "--out", run)["batch_size"], 2)
        self.refuse(*self.training(run, "--step-windows", 8), "--resume", says=["steps of 4 windows, not 8"])
        self.refuse(*self.training(run, *step), "--resume", limit=self.limit_between(1, 2), says=["must keep its batch"])
        self.succeed(*self.training(run, *step), "--resume")
        self.assert_same_run(whole, run)

        state = run / "checkpoint" / "trainer.json"
        state.write_text(state.read_text().replace('"batch_size"', '"size"'))
        self.refuse(*self.training(run, *step), "--resume", says=["damaged", "batch_size"])
        state.unlink()
        self.refuse(*self.training(run, *step), "--resume", says=["no checkpoint to resume from"])


if __name__ == "__main__":
    unittest.main()
