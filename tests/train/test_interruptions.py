"""Trainers that are stopped or killed go on as if they had not been."""

import json
import random
import signal
import subprocess
import time
import unittest

from trainer_program import PROGRAM, TrainerTest, read_weights


class Interruptions(TrainerTest):
    STEPS = 40

    def arguments(self, run, *more):
        return self.training(run, self.STEPS, "--accumulate", 2, "--log-every", 1, *more)

    def test_signals(self):
        whole = self.folder / "whole"
        self.succeed(*self.arguments(whole))
        for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            with self.subTest(number):
                run = self.folder / f"stopped by {number}"
                program = self.start(*self.arguments(run))
                time.sleep(0.1)
                program.send_signal(number)
                output = program.stdout.read()
                self.assertEqual(program.wait(60), status, program.stderr.read())
                self.assertIn("go on with --resume", output)
                step = json.loads((run / "checkpoint" / "trainer.json").read_text())["step"]
                self.assertTrue(0 < step < self.STEPS, step)
                self.assertIn(f"resumed at step {step}", self.succeed(*self.arguments(run, "--resume")).stdout)
                self.assert_same_run(whole, run)

    def test_kills(self):
        whole, run = self.folder / "whole", self.folder / "run"
        often = ["--checkpoint-every", 1]
        self.succeed(*self.arguments(whole, *often))
        seed = random.randrange(2**32)
        moments = random.Random(seed)
        kills, resume = 0, []
        while kills < 10:
            command = [str(x) for x in [PROGRAM, *self.arguments(run, *often, *resume)]]
            program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            with program:
                time.sleep(moments.uniform(0.02, 0.3))
                program.kill()
                errors = program.stderr.read()
            self.assertEqual(errors, "", f"seed {seed}")
            if program.returncode == 0:
                break
            kills += 1
            checkpoint = run / "checkpoint"
            if not checkpoint.exists():  # killed before the first one
                continue
            resume = ["--resume"]
            names = sorted(path.name for path in checkpoint.iterdir())
            self.assertEqual(names, ["config.json", "model.safetensors", "optimizer.safetensors", "trainer.json"])
            for name in ("model.safetensors", "optimizer.safetensors"):
                read_weights(checkpoint / name)
        self.assertGreater(kills, 3, f"seed {seed}")
        self.succeed(*self.arguments(run, *often, *resume))
        self.assert_same_run(whole, run)
        self.assertEqual(sorted(path.name for path in run.iterdir()), ["checkpoint", "metrics.jsonl"])


if __name__ == "__main__":
    unittest.main()
