"""Trainers that are stopped or killed resume as if nothing had happened."""

import json
import random
import resource
import signal
import subprocess
import time
import unittest

from trainer_program import PROGRAM, TrainerTest, content, read_weights


class Interruptions(TrainerTest):
    STEPS = 40

    def arguments(self, run, *more):
        return self.training(run, self.STEPS, "--accumulate", 2, "--log-every", 1, *more)

    def stop(self, run, *numbers, preexec=None):
        """Sends signals to a run that has trained at least a step; its exit status and the rest of its output."""
        program = self.start(*self.arguments(run), preexec=preexec)
        for number in numbers:
            program.send_signal(number)
        output = program.stdout.read()
        return program.wait(60), output

    def test_signals(self):
        whole = self.folder / "whole"
        self.succeed(*self.arguments(whole))
        for number in (
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGHUP,
            signal.SIGXCPU,
            signal.SIGUSR1,
            signal.SIGUSR2,
        ):
            with self.subTest(number):
                run = self.folder / f"stopped by {number}"
                status, output = self.stop(run, number)
                self.assertEqual(status, 128 + number)
                self.assertIn("continue with --resume", output)
                step = json.loads((run / "checkpoint" / "trainer.json").read_text())["step"]
                self.assertTrue(0 < step < self.STEPS, step)
                self.assertIn(f"resumed at step {step}", self.succeed(*self.arguments(run, "--resume")).stdout)
                self.assert_same_run(whole, run)

    def test_signals_that_come_twice(self):
        """As from timeout(1), and from a closing terminal."""
        for numbers in ([signal.SIGTERM] * 2, [signal.SIGHUP] * 2, [signal.SIGTERM, signal.SIGHUP]):
            run = self.folder / str(numbers)
            program = self.start(*self.arguments(run))
            for number in numbers:
                program.send_signal(number)
                time.sleep(0.005)  # a signal that is pending twice is delivered once
            self.assertIn("continue with --resume", program.stdout.read())
            self.assertEqual(program.wait(60), 128 + numbers[0])

    def test_a_second_interruption_does_not_wait(self):
        run = self.folder / "run"
        # A step of many passes, so that the second interrupt comes within a step.
        program = self.start(*self.training(run, 100, "--log-every", 1), "--accumulate", 5000, wait=False)
        while not (run / "checkpoint").exists():
            self.assertIsNone(program.poll())
            time.sleep(0.01)
        time.sleep(2)
        program.send_signal(signal.SIGINT)
        time.sleep(3.1)
        program.send_signal(signal.SIGINT)
        self.assertEqual(program.wait(60), -signal.SIGINT)

    def test_an_ignored_signal_stays_ignored(self):
        run = self.folder / "run"
        ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731, what nohup does
        status, output = self.stop(run, signal.SIGHUP, preexec=ignore)
        self.assertEqual(status, 0)
        self.assertIn("finished", output)

    def test_a_reader_that_goes(self):
        whole, run = self.folder / "whole", self.folder / "run"
        self.succeed(*self.arguments(whole))
        program = self.start(*self.arguments(run))
        program.stdout.close()
        self.assertEqual(program.wait(60), 0, program.stderr.read())
        self.assert_same_run(whole, run)

    def test_a_limit_on_the_size_of_files(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # noqa: E731, ulimit -f

        def fails(*arguments):
            command = [str(x) for x in [PROGRAM, *arguments]]
            result = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
            self.assertIn("model.safetensors could not be written: File too large", result.stderr)

        fails(*self.arguments(self.folder / "new"))
        self.assertFalse((self.folder / "new" / "checkpoint").exists())
        run = self.folder / "run"
        self.stop(run, signal.SIGTERM)
        before = content(run / "checkpoint")
        fails(*self.arguments(run, "--resume"))
        self.assertEqual(content(run / "checkpoint"), before)
        self.assertEqual(sorted(path.name for path in run.iterdir()), ["checkpoint", "metrics.jsonl"])
        self.succeed(*self.arguments(run, "--resume"))

    def test_kills(self):
        whole, run = self.folder / "whole", self.folder / "run"
        often = ["--checkpoint-every", 1]
        started = time.monotonic()
        self.succeed(*self.arguments(whole, *often))
        longest = (time.monotonic() - started) / 8
        seed = random.randrange(2**32)
        moments = random.Random(seed)
        kills, resume = 0, []
        while kills < 10:
            command = [str(x) for x in [PROGRAM, *self.arguments(run, *often, *resume)]]
            program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            with program:
                time.sleep(moments.uniform(longest / 15, longest))
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
        self.assertTrue(resume, f"seed {seed}: no kill came after a checkpoint")
        self.succeed(*self.arguments(run, *often, *resume))
        self.assert_same_run(whole, run)
        self.assertEqual(sorted(path.name for path in run.iterdir()), ["checkpoint", "metrics.jsonl"])


if __name__ == "__main__":
    unittest.main()
