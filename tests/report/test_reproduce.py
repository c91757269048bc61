"""The job around the trainers: what it starts, how it stops, how it goes on. The trainers are stand-ins."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "examples"
ALL = ["sm_ln_g", "sm_ln_r", "sm_g", "sm_r"]
PATIENCE = 120  # seconds until a hanging job is called hanging


class ReproduceTest(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.root = Path(place.name)
        self.out, self.starts = self.root / "run", self.root / "starts"
        self.programs, self.corpus = self.root / "bin", self.root / "corpus"
        self.programs.mkdir()
        self.corpus.mkdir()
        for name in ["prepare_corpus", *(f"train_demo_{config}" for config in ALL)]:
            (self.programs / name).symlink_to(HERE / "fake_trainer.py")

    def start(self, *options, scale="smoke", **environment):
        return subprocess.Popen(
            [
                sys.executable,
                EXAMPLES / "reproduce.py",
                "--scale",
                scale,
                "--out",
                self.out,
                "--corpus",
                self.corpus,
                "--programs",
                self.programs,
                *options,
            ],
            env=os.environ | {"FAKE_STARTS": str(self.starts)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run_job(self, *options, **environment):
        """(exit status, output, starts of this call)."""
        before = len(self.started())
        job = self.start(*options, **environment)
        output, _ = job.communicate(timeout=PATIENCE)
        return job.returncode, output, self.started()[before:]

    def started(self):
        return self.starts.read_text().splitlines() if self.starts.exists() else []

    def wait_for(self, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), deadline, "waited in vain")
            time.sleep(0.05)

    def logged_step(self, config):
        path = self.out / config / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return max((json.loads(line)["step"] for line in lines), default=-1)

    def folder_is_free(self):
        """Whether the job and all it started have ended."""
        with open(self.out / ".lock", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def results(self):
        return json.loads((self.out / "results.json").read_text())

    def test_whole_job_and_its_repetition(self):
        status, output, starts = self.run_job("--seed", "5")
        self.assertEqual(status, 0, output)
        results = self.results()
        self.assertEqual([run["config"] for run in results["runs"]], ALL)
        self.assertEqual((results["seed"], results["scale"]), (5, "smoke"))
        self.assertEqual(results["corpus"]["prepared"]["documents"]["kept"], 1500)
        self.assertTrue((self.out / "report.md").exists())
        trainings = [start for start in starts if "--train" in start]
        self.assertEqual(len(trainings), 4)
        recipes = {start[start.index("--learning-rate") :] for start in trainings}
        self.assertEqual(len(recipes), 1, "a configuration has a recipe of its own")
        self.assertTrue(all("--threads 1" in start and "--seed 5" in start for start in trainings))

        status, output, starts = self.run_job("--seed", "5")
        self.assertEqual(status, 0, output)
        self.assertEqual(
            [start for start in starts if start.startswith("train_")], [], "finished work was done again"
        )

    def test_interrupted_goes_on_from_the_checkpoints(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number.name):
                config = {signal.SIGINT: "sm_ln_g", signal.SIGTERM: "sm_g"}[number]
                before = len(self.started())
                job = self.start(FAKE_HOLD=f"{config}:20")
                self.wait_for(lambda: self.logged_step(config) == 20)
                job.send_signal(number)
                output, _ = job.communicate(timeout=PATIENCE)
                self.assertEqual(job.returncode, 128 + number, output)
                self.assertIn("The same command goes on", output)
                saved = json.loads((self.out / config / "checkpoint" / "trainer.json").read_text())
                self.assertEqual(saved["step"], 21)
                self.assertFalse((self.out / "results.json").exists())
                self.assertGreater(len(self.started()), before)
        status, output, starts = self.run_job()
        self.assertEqual(status, 0, output)
        resumed = [start for start in starts if start.startswith("train_demo_sm_g ") and "--train " in start]
        self.assertEqual(len(resumed), 1)
        self.assertIn("--resume", resumed[0])
        self.assertEqual(len(self.results()["runs"]), 4)

    def test_failure_is_shown_stops_the_others_and_can_be_mended(self):
        environment = {"FAKE_FAIL": "sm_ln_g:7", "FAKE_HOLD": "sm_ln_r:3"}
        side_by_side = len(os.sched_getaffinity(0)) > 1
        if side_by_side:
            environment["FAKE_FAIL_AFTER"] = str(self.out / "sm_ln_r" / "metrics.jsonl")
        status, output, _ = self.run_job(**environment)
        self.assertEqual(status, 1, output)
        self.assertIn("SM + LN + G failed", output)
        self.assertIn("the made-up disk is full", output)
        self.assertEqual((self.out / "sm_ln_r" / "checkpoint" / "trainer.json").exists(), side_by_side)
        status, output, _ = self.run_job()
        self.assertEqual(status, 0, output)

    def test_diverged_run_is_reported_and_not_repeated(self):
        status, output, _ = self.run_job(FAKE_DIVERGE="sm_g:7")
        self.assertEqual(status, 0, output)
        runs = {run["config"]: run for run in self.results()["runs"]}
        self.assertIsNone(runs["sm_g"]["perplexity"])
        self.assertIsNotNone(runs["sm_r"]["perplexity"])
        self.assertIn("**SM + G diverged**", (self.out / "report.md").read_text())
        _, _, starts = self.run_job()
        self.assertEqual([start for start in starts if start.startswith("train_")], [])

    def test_later_configurations_join_the_earlier(self):
        status, output, _ = self.run_job("--configs", "sm_r", "sm_g")
        self.assertEqual(status, 0, output)
        self.assertEqual([run["config"] for run in self.results()["runs"]], ["sm_g", "sm_r"])
        self.assertEqual({run["delta_percent"] for run in self.results()["runs"]}, {None})
        status, output, starts = self.run_job("--configs", "sm_ln_g")
        self.assertEqual(status, 0, output)
        self.assertFalse([start for start in starts if start.startswith("train_demo_sm_g")])
        self.assertEqual([run["config"] for run in self.results()["runs"]], ["sm_ln_g", "sm_g", "sm_r"])

    def test_other_settings_are_refused(self):
        self.assertEqual(self.run_job("--configs", "sm_r")[0], 0)
        for options, word in (
            (["--seed", "1"], "seed 0, not 1"),
            (["--scale", "demo"], "scale smoke, not demo"),
        ):
            for check in ([], ["--check"]):
                status, output, starts = self.run_job(*options, *check)
                self.assertEqual(status, 1, output)
                self.assertIn(word, output)
                self.assertEqual(starts, [])

    def test_foreign_folder_is_refused(self):
        self.out.mkdir()
        (self.out / "thesis.tex").write_text("precious")
        status, output, starts = self.run_job()
        self.assertEqual((status, starts), (1, []), output)
        self.assertIn("not empty", output)
        self.assertEqual([entry.name for entry in self.out.iterdir()], ["thesis.tex"])

    def test_two_jobs_in_one_folder(self):
        job = self.start("--configs", "sm_r", FAKE_HOLD="sm_r:5")
        self.wait_for(lambda: self.logged_step("sm_r") == 5)
        status, output, _ = self.run_job("--configs", "sm_r")
        self.assertEqual(status, 1, output)
        self.assertIn("at work", output)
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=PATIENCE)

    def test_killed_job_takes_its_trainers_along(self):
        job = self.start("--configs", "sm_r", FAKE_HOLD="sm_r:5")
        self.wait_for(lambda: self.logged_step("sm_r") == 5)
        job.kill()
        job.communicate(timeout=PATIENCE)
        self.wait_for(self.folder_is_free)
        status, output, starts = self.run_job("--configs", "sm_r")
        self.assertEqual(status, 0, output)
        self.assertTrue(any("--resume" in start for start in starts))


class CommandLineTest(unittest.TestCase):
    """reproduce.sh tells mistakes before it installs or builds anything."""

    def test_mistakes(self):
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "file"
            file.write_text("")
            # An empty PATH folder with only what the checks need: nothing could be installed or built.
            tools = Path(place) / "tools"
            tools.mkdir()
            for tool in ("bash", "dirname", "realpath", "sed"):
                (tools / tool).symlink_to(subprocess.check_output(["which", tool], text=True).strip())
            for options, words in (
                (["--scale", "huge"], "unknown scale 'huge'"),
                (["--configs", "sm_ln_g,sm_x"], "unknown configuration 'sm_x'"),
                (["--corpus", place + "/none"], "does not exist"),
                (["--seed", "-1"], "--seed '-1'"),
                (["--out", str(file)], "is a file"),
                (["--seed"], "--seed needs a value"),
                (["--epochs", "3"], "unknown option '--epochs'"),
            ):
                with self.subTest(options=options):
                    job = subprocess.run(
                        [EXAMPLES / "reproduce.sh", *options],
                        env={"PATH": str(tools)},
                        text=True,
                        capture_output=True,
                        timeout=PATIENCE,
                    )
                    self.assertEqual(job.returncode, 1, job.stderr)
                    self.assertIn(words, job.stderr)
                    self.assertEqual(len(job.stderr.splitlines()), 1, job.stderr)

    def test_help(self):
        for command in (
            [EXAMPLES / "reproduce.sh"],
            [EXAMPLES / "install_dependencies.sh"],
            [sys.executable, EXAMPLES / "reproduce.py"],
            [sys.executable, EXAMPLES / "report.py"],
        ):
            output = subprocess.run([*command, "--help"], text=True, capture_output=True, check=True).stdout
            self.assertIn("install_dependencies.sh" if "install" in str(command[-1]) else "--", output)


if __name__ == "__main__":
    unittest.main()
