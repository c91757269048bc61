"""The job around the trainers: what it starts, how it stops, how it resumes. The trainers are fake."""

import argparse
import dataclasses
import fcntl
import io
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES / "reproduce"))

import corpus
import experiments
import jobs
import runs
from configurations import CONFIGURATIONS, RECIPES
from scales import SCALES

ALL = ["sm_ln_g", "sm_ln_r", "sm_g", "sm_r"]
PATIENCE = 1200  # seconds until a job counts as hanging


class ReproduceTest(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.root = Path(place.name)
        self.out, self.starts = self.root / "run", self.root / "starts"
        self.programs, self.corpus = self.root / "bin", self.root / "corpus"
        self.programs.mkdir()
        self.corpus.mkdir()
        grid = [
            spec
            for scale in ("smoke", "gpt2")
            for recipe in RECIPES
            for spec in experiments.grid(experiments.EXPERIMENTS, scale, recipe, [0])
        ]
        trainers = {spec.trainer(device, ranks) for spec in grid for device in runs.DEVICE_SUFFIX for ranks in (1, 2)}
        for name in {"prepare_corpus", "downstream", *trainers}:
            (self.programs / name).symlink_to(HERE / "fake_trainer.py")

    def start(self, *options, scale="smoke", rendered=False, **environment):
        return subprocess.Popen(
            [
                sys.executable,
                EXAMPLES / "reproduce" if rendered else HERE / "unrendered.py",
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
            errors="surrogateescape",
            start_new_session=True,
        )

    def run_job(self, *options, **environment):
        """(exit status, output, starts of this call)."""
        before = len(self.started())
        job = self.start(*options, **environment)
        output, _ = job.communicate(timeout=PATIENCE)
        return job.returncode, output, self.started()[before:]

    def started(self):
        return self.starts.read_text(errors="surrogateescape").splitlines() if self.starts.exists() else []

    def wait_for(self, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), deadline, "the condition did not hold in time")
            time.sleep(0.05)

    def folder(self, config, rest="T128-paper", seed=0):
        return self.out / "runs" / f"demo-{config}-{rest}-seed{seed}"

    def logged_step(self, config):
        path = self.folder(config) / "metrics.jsonl"
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

    def test_live_page(self):
        """It is served while runs are trained, shows waiting runs, and ends with the job."""
        job = self.start("--live", "0", "--configs", "sm_g", "sm_r", FAKE_HOLD="sm_g:3")
        self.addCleanup(job.communicate)
        self.addCleanup(job.kill)
        url = next(found[0] for line in job.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+/", line)))
        self.wait_for(lambda: self.logged_step("sm_g") == 3)

        def shows(text):
            with urllib.request.urlopen(url + "content", timeout=PATIENCE) as answer:
                return text in answer.read().decode()

        self.wait_for(lambda: shows("4/12"))
        self.assertTrue(shows("SM + R, seed 0"))
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=PATIENCE)
        with self.assertRaises(OSError):
            urllib.request.urlopen(url, timeout=PATIENCE)

    def test_a_port_that_is_taken(self):
        """This is reported before anything is created."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            status, output, starts = self.run_job("--live", str(taken.getsockname()[1]))
        self.assertEqual((status, starts), (1, []))
        self.assertIn("cannot be used", output)
        self.assertFalse(self.out.exists())

    def test_whole_job_and_its_repetition(self):
        status, output, starts = self.run_job("--seed", "5", rendered=True)
        self.assertEqual(status, 0, output)
        results = self.results()
        self.assertEqual([run["config"] for run in results["runs"]], ALL)
        self.assertEqual(({run["seed"] for run in results["runs"]}, results["scale"]), ({5}, "smoke"))
        self.assertEqual(results["corpus"]["prepared"]["128"]["documents"]["kept"], 1500)
        self.assertAlmostEqual(results["corpus"]["unigram_loss"]["128"], math.log(16))
        self.assertTrue((self.out / "report.md").exists())
        self.assertTrue((self.out / "report.html").exists())
        trainings = [start for start in starts if "--train" in start]
        self.assertEqual(len(trainings), 4)
        recipes = {start[start.index("--batch-size") :] for start in trainings}
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
                job = self.start(FAKE_HOLD=f"{config}:8")
                self.wait_for(lambda: self.logged_step(config) == 8)
                job.send_signal(number)
                output, _ = job.communicate(timeout=PATIENCE)
                self.assertEqual(job.returncode, 128 + number, output)
                self.assertIn("The same command continues", output)
                saved = json.loads((self.folder(config) / "checkpoint" / "trainer.json").read_text())
                self.assertEqual(saved["step"], 9)
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
            environment["FAKE_FAIL_AFTER"] = str(self.folder("sm_ln_r") / "metrics.jsonl")
        status, output, _ = self.run_job(**environment)
        self.assertEqual(status, 1, output)
        self.assertIn("training SM + LN + G, seed 0 failed", output)
        self.assertIn("the made-up disk is full", output)
        self.assertEqual((self.folder("sm_ln_r") / "checkpoint" / "trainer.json").exists(), side_by_side)
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
            (["--scale", "demo"], "scale smoke, not demo"),
            (["--corpus", str(self.programs)], "not " + str(self.programs)),
            (["--device", "cuda"], "device cpu, not cuda"),
        ):
            for check in ([], ["--check"]):
                status, output, starts = self.run_job(*options, *check)
                self.assertEqual(status, 1, output)
                self.assertIn(word, output)
                self.assertEqual(self.trained(starts), [])

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
        self.assertIn("another job is running", output)
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

    def trained(self, starts):
        return [start for start in starts if "--train " in start]

    def test_all_experiments_share_runs(self):
        """The stability experiment's runs at the plain rate are those of the perplexity experiment."""
        status, output, starts = self.run_job("--experiment", "all")
        self.assertEqual(status, 0, output)
        # 4 configurations; 4 leaky ones decayed and not; 4 of Pythia at two contexts; 4 at two other rates.
        self.assertEqual(len(self.trained(starts)), 4 + 8 + 8 + 8)
        self.assertIn("plan: 28 runs", output)
        text = (self.out / "report.md").read_text()
        for title in (
            "Perplexity",
            "Learnable slopes",
            "Pythia",
            "Stability",
            "Residual stream",
            "Signal propagation",
            "Private inference",
        ):
            self.assertRegex(text, f"(?m)^## {title}")
        pythia = [start for start in starts if "train_pythia_demo_sm_r " in start and "--train " in start]
        self.assertEqual(len(pythia), 2)
        for start in pythia:
            context = start.split("--context ")[1].split()[0]
            self.assertIn(f"/T{context}/train.bin", start)
            self.assertIn(f"--steps {12 * 128 // int(context)} ", start)
        leaky = [start for start in self.trained(starts) if "train_demo_sm_leaky_global " in start]
        self.assertEqual(sorted("--no-decay-slopes" in start for start in leaky), [False, True])
        self.assertTrue(all("-decay-slopes" in start for start in leaky))
        rates = [start.split("--learning-rate ")[1].split()[0] for start in self.trained(starts)]
        self.assertEqual({rate: rates.count(rate) for rate in rates}, {"0.002": 20, "0.004": 4, "0.008": 4})
        second = [
            start for start in starts if start.startswith("prepare_corpus") and "--context 256" in start
        ]
        self.assertIn("/T128/tokenizer.model", second[0])
        self.assertNotIn("--vocab-size", second[0])

        status, output, starts = self.run_job("--experiment", "stability", "pythia", "--seeds", "2")
        self.assertEqual(status, 0, output)
        self.assertEqual(len(self.trained(starts)), 12 + 8, "the runs of seed 0 were there")
        self.assertTrue(all("--seed 1" in start for start in self.trained(starts)))
        self.assertIn("seeds 0 and 1", (self.out / "report.md").read_text())

    def test_a_student_waits_for_its_teacher(self):
        """It is trained after the teacher, with its checkpoint, and is resumed with it."""
        experiment = ("--experiment", "distillation")
        job = self.start(*experiment, FAKE_HOLD="sm_ln_g:3")
        self.wait_for(lambda: self.logged_step("sm_ln_g") == 3 and (self.folder("sm_r") / "evaluation.json").exists())
        time.sleep(1)  # in which a student that does not wait would start
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=PATIENCE)
        self.assertFalse([start for start in self.trained(self.started()) if "distilled" in start])
        job = self.start(*experiment, FAKE_HOLD="sm_r_distilled:3")
        student = self.out / "runs" / (
            "demo-sm_r_distilled-T128-paper-teacher_weight_0.5-teacher_temperature_2-teacher_sm_ln_g-seed0"
        )
        metrics = student / "metrics.jsonl"
        self.wait_for(lambda: metrics.exists() and '"step": 3' in metrics.read_text())
        job.send_signal(signal.SIGTERM)
        output, _ = job.communicate(timeout=PATIENCE)
        label = "SM + R, distilled, teacher weight 0.5, teacher temperature 2, teacher SM + LN + G, seed 0"
        self.assertIn(f"plan: {label}: after SM + LN + G, seed 0", output)
        of_programs = [start.split()[0] for start in self.started()]
        last = max(i for i, name in enumerate(of_programs) if name == "train_demo_sm_ln_g")
        taught = [start for start in self.trained(self.started()) if start.startswith("train_demo_sm_r_distilled")]
        self.assertLess(last, self.started().index(taught[0]), "the student began before its teacher was there")
        self.assertIn(f"--teacher {self.folder('sm_ln_g')}/checkpoint", taught[0])
        self.assertIn("--teacher-weight 0.5 --teacher-temperature 2", taught[0])

        status, output, starts = self.run_job(*experiment)
        self.assertEqual(status, 0, output)
        self.assertNotIn("plan: SM", output)
        resumed = [start for start in self.trained(starts) if "distilled" in start]
        self.assertTrue(len(resumed) == 1 and "--resume" in resumed[0] and "--teacher " in resumed[0], resumed)
        taught = next(run for run in self.results()["runs"] if run["config"] == "sm_r_distilled")
        self.assertEqual(taught["options"]["teacher_temperature"], 2)
        self.assertEqual(taught["teacher"]["config"], "sm_ln_g")
        status, output, starts = self.run_job(*experiment)
        self.assertEqual((status, self.trained(starts)), (0, []), output)

    def test_a_run_that_needs_a_diverged_one_is_left_out(self):
        for attempt in range(2):
            status, output, starts = self.run_job("--experiment", "distillation", FAKE_DIVERGE="sm_ln_g:7")
            self.assertEqual(status, 0, output)
            self.assertRegex(output, r"teacher SM \+ LN \+ G, seed 0: left out, since SM \+ LN \+ G, seed 0 diverged")
            self.assertFalse([start for start in self.trained(starts) if "distilled" in start])

    def test_the_speed_of_a_student_is_measured_with_its_teacher(self):
        options = ("--scale", "gpt2", "--experiment", "distillation")
        status, output, starts = self.run_job(*options, FAKE_WINDOWS="1536")
        self.assertEqual(status, 0, output)
        self.assertEqual([start.split()[0] for start in starts if "--profile" in start], ["train_gpt2_sm_r"])
        shutil.rmtree(next((self.out / "runs").glob("gpt2-sm_r_distilled-*")))
        status, output, starts = self.run_job(*options, FAKE_WINDOWS="1536")
        self.assertEqual(status, 0, output)
        measured = [start for start in starts if "--profile" in start]
        self.assertRegex(measured[0], "^train_gpt2_sm_r_distilled .*--teacher .*/gpt2-sm_ln_g-T128-paper-seed0/checkpoint")

    def test_a_checkpoint_that_is_needed_and_gone_is_told(self):
        self.assertEqual(self.run_job("--configs", "sm_ln_g")[0], 0)
        (self.folder("sm_ln_g") / "checkpoint" / "trainer.json").unlink()
        status, output, starts = self.run_job("--experiment", "distillation")
        self.assertEqual((status, self.trained(starts)), (1, []), output)
        self.assertIn(f"{self.folder('sm_ln_g')} no longer has its checkpoint, which is needed for SM + R, dist", output)

    def factors_of(self, starts, config, seed=0):
        """The multiples of the learning rate with which a configuration was trained."""
        return [
            float(start.split("--learning-rate ")[1].split()[0]) / 2e-3
            for start in self.trained(starts)
            if start.startswith(f"train_demo_{config} ") and f"--seed {seed} " in start
        ]

    def test_the_learning_rate_is_searched_and_then_compared(self):
        """The best of 1, 2 and 4 is the last, so 8 and 16 are tried with the first seed only; the other seed
        is trained at the best rate. A second run finds all of it."""
        options = ("--experiment", "tuned", "--configs", "sm_r", "--seeds", "2")
        status, output, starts = self.run_job(*options, FAKE_BEST="8")
        self.assertEqual(status, 0, output)
        self.assertEqual(sorted(self.factors_of(starts, "sm_r")), [1, 2, 4, 8, 16])
        self.assertEqual(sorted(self.factors_of(starts, "sm_r", seed=1)), [1, 8])
        halves = [start for start in starts if "selection.bin" in start]
        self.assertEqual(len(halves), 7)
        self.assertTrue(all("--evaluate-only" in start for start in halves))
        shard = corpus.read_shard(self.out / "corpus" / "T128" / "selection.bin")
        self.assertEqual(shard.tolist(), list(range(16)) * 8)
        status, output, starts = self.run_job(*options, FAKE_BEST="8")
        self.assertEqual((status, [start for start in starts if "--val" in start]), (0, []), output)
        self.assertIn("plan: 7 runs, 7 of them done", output)

    def test_runs_of_others_are_evaluated_in_halves_where_that_is_needed(self):
        self.assertEqual(self.run_job("--configs", "sm_r")[0], 0)
        status, output, starts = self.run_job("--experiment", "tuned", "--configs", "sm_r", FAKE_BEST="0.5")
        self.assertEqual(status, 0, output)
        self.assertEqual(sorted(self.factors_of(starts, "sm_r")), [0.25, 0.5, 2, 4])
        again = [start for start in starts if f"{self.folder('sm_r')}/" in start]
        self.assertEqual(len(again), 1)
        self.assertIn("/selection.bin", again[0])
        (self.folder("sm_r") / "selection.json").unlink()
        (self.folder("sm_r") / "checkpoint" / "trainer.json").unlink()
        status, output, starts = self.run_job("--experiment", "tuned", "--configs", "sm_r")
        self.assertEqual(status, 1, output)
        self.assertIn("no longer has its checkpoint", output)

    def test_runs_that_start_from_others(self):
        """A chain: each run starts from the weights of the one before it, and has its own options."""
        self.out.mkdir()
        for name in ("train.bin", "val.bin"):
            (self.out / name).write_bytes(b"")
        first = runs.Spec("demo", "sm_ln_g", 128, 0)
        second = runs.Spec("demo", "sm_g", 128, 0, options=(("steps", 6), ("decay_slopes", True)), init_from=first)
        third = runs.Spec("demo", "sm_r", 128, 0, init_from=second)
        arguments = argparse.Namespace(scale="smoke", device="cpu", ranks=1, out=self.out, programs=self.programs)
        made = {}
        for spec in experiments.with_prerequisites(third):
            made[spec] = jobs.Job(spec, arguments, self.out, 100, made)
        self.assertEqual(list(made), [first, second, third])
        stop = argparse.Namespace(check=lambda: None)
        with mock.patch.dict(os.environ, {"FAKE_STARTS": str(self.starts)}), redirect_stdout(io.StringIO()):
            jobs.train_all(list(made.values()), 2, stop)
        trained = self.trained(self.started())
        self.assertEqual([start.split()[0] for start in trained], [f"train_demo_{name}" for name in ("sm_ln_g", "sm_g", "sm_r")])
        self.assertNotIn("--init-from", trained[0])
        for start, before in zip(trained[1:], (first, second)):
            self.assertIn(f"--init-from {self.out}/runs/{before.name}/checkpoint", start)
        self.assertIn("--steps 6 ", trained[1])
        self.assertEqual(third.name, "demo-sm_r-T128-paper-init_from_sm_g_steps_6_decay_slopes_True_init_from_sm_ln_g-seed0")

    def test_downstream(self):
        """Finished runs are measured, each once; diverged ones are not."""
        status, output, starts = self.run_job("--configs", "sm_g", "sm_r")
        self.assertEqual(status, 0, output)
        self.assertFalse([start for start in starts if "--held-out-text" in start or start.startswith("downstream")])
        self.assertNotIn("## Downstream", (self.out / "report.md").read_text())
        status, output, starts = self.run_job("--experiment", "downstream", FAKE_DIVERGE="sm_ln_g:4")
        self.assertEqual(status, 0, output)
        self.assertEqual(len(self.trained(starts)), 2)
        measured = [start for start in starts if start.startswith("downstream")]
        self.assertEqual(len(measured), 3)
        for start, config in zip(measured, ("sm_ln_r", "sm_g", "sm_r")):
            self.assertIn(f"--checkpoint {self.folder(config)}/checkpoint ", start)
            self.assertIn("/T128/tokenizer.model --annotated ", start)
        self.assertRegex((self.out / "report.md").read_text(), "(?m)^## Downstream")
        status, output, starts = self.run_job("--experiment", "downstream", FAKE_DIVERGE="sm_ln_g:4")
        self.assertEqual(status, 0, output)
        self.assertFalse([start for start in starts if "--held-out-text" in start or start.startswith("downstream")])
        self.assertEqual(sum(start.startswith("prepare_corpus") for start in starts), 1)

    def test_downstream_of_another_language(self):
        """The report of a corpus that is not Python lacks that section."""
        status, output, starts = self.run_job(
            "--experiment", "downstream", "--configs", "sm_g", FAKE_TEXT="int main() { return 0; }"
        )
        self.assertEqual(status, 0, output)
        self.assertRegex(output, "(?m)^downstream: not measured: annotating .*none of 1 sources can be used")
        self.assertFalse([start for start in starts if start.startswith("downstream")])
        self.assertNotIn("## Downstream", (self.out / "report.md").read_text())

    def test_targets(self):
        for experiment, others in (("perplexity", []), ("downstream", ["downstream"])):
            command = [sys.executable, EXAMPLES / "reproduce", "--experiment", experiment, "--targets", "--out", self.out]
            targets = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            trainers = [f"train_demo_{config}" for config in ("sm_ln_g", "sm_ln_r", "sm_g", "sm_r")]
            self.assertEqual(targets, ["prepare_corpus", *others, *trainers])

    def test_clean_recipe(self):
        status, output, starts = self.run_job("--recipe", "clean", "--experiment", "perplexity", "slopes")
        self.assertEqual(status, 0, output)
        self.assertTrue(all(start.split()[0].endswith("_clean") for start in self.trained(starts)))
        self.assertTrue(all("--dropout 0.0" in start for start in self.trained(starts)))
        self.assertIn("(clean recipe)", (self.out / "report.md").read_text())
        # The other recipe can share the folder.
        status, output, starts = self.run_job("--configs", "sm_r")
        self.assertEqual((status, len(self.trained(starts))), (0, 1), output)
        self.assertIn("--dropout 0.1", self.trained(starts)[0])

    def test_the_papers_scale_is_planned_before_it_starts(self):
        """One epoch of the corpus; the time is estimated from a speed that is measured."""
        options = ("--scale", "gpt2", "--configs", "sm_r")
        status, output, starts = self.run_job(*options, FAKE_WINDOWS="1536")
        self.assertEqual(status, 0, output)
        training = self.trained(starts)[-1]
        self.assertIn("--steps 3 ", training)
        self.assertIn("--batch-size 8 --accumulate 64 --learning-rate 0.001", training)
        # 3 steps of 65,536 tokens at 1,024 tokens a second.
        self.assertIn("plan: about 3:12 in total", output)
        self.assertLess(output.index("plan: about"), output.index("seed 0: training"))

    def test_a_gpu_trains_with_the_batch_that_fits_it(self):
        """One run at a time, in passes as large as memory allows; a resumed run keeps its passes."""
        options = ("--scale", "gpt2", "--device", "cuda", "--configs", "sm_g", "sm_r")
        job = self.start(
            *options, FAKE_WINDOWS="5120", FAKE_BATCH="100", FAKE_HOLD="train_gpt2_sm_g_cuda:3"
        )
        folder = self.out / "runs" / "gpt2-sm_g-T128-paper-seed0"
        metrics = folder / "metrics.jsonl"
        self.wait_for(lambda: metrics.exists() and '"step": 3' in metrics.read_text())
        job.send_signal(signal.SIGTERM)
        output, _ = job.communicate(timeout=PATIENCE)
        self.assertIn("64 windows in a pass, 7.40 of 20.00 GB free on made-up GPU", output)
        self.assertFalse([start for start in self.started() if start.startswith("train_gpt2_sm_r_cuda --val")])

        status, output, starts = self.run_job(*options, FAKE_WINDOWS="5120", FAKE_BATCH="16")
        self.assertEqual(status, 0, output)
        self.assertIn("16 to 64 windows in a pass", output)
        trainings = self.trained(starts)
        self.assertTrue(all("--step-windows 512 " in start for start in trainings))
        self.assertFalse([start for start in trainings if "--batch-size" in start])
        evaluations = [start for start in starts if "--evaluate-only" in start]
        self.assertEqual([start.split("--batch-size ")[1].split()[0] for start in evaluations], ["64", "16"])
        self.assertEqual({run["device"] for run in self.results()["runs"]}, {"made-up GPU"})
        report = (self.out / "report.md").read_text()
        self.assertIn("Trained on made-up GPU.", report)
        self.assertIn("--device cuda", report)

    def test_several_processes_train_each_run(self):
        """Started by mpirun, each with a part of the passes; a folder keeps its number of processes."""
        mpirun = self.root / "mpirun"
        mpirun.write_text('#!/bin/bash\n[[ "$1 $2" == "-n 2" ]] || exit 9\nshift 2\nexec "$@"\n')
        mpirun.chmod(0o755)
        path = {"PATH": f"{self.root}:{os.environ['PATH']}"}
        status, output, starts = self.run_job("--ranks", "2", "--configs", "sm_g", **path)
        self.assertEqual(status, 0, output)
        (training,) = self.trained(starts)
        self.assertTrue(training.startswith("train_demo_sm_g_mpi "), training)
        self.assertIn("--batch-size 8 --accumulate 2 ", training)
        self.assertIn("--ranks 2", (self.out / "report.md").read_text())
        status, output, _ = self.run_job("--ranks", "4", "--configs", "sm_g", **path)
        self.assertEqual(status, 1)
        self.assertIn("was started with ranks 2, not 4", output)

    def test_a_missing_device_is_told_before_anything_is_made(self):
        status, output, starts = self.run_job("--device", "cuda", FAKE_NO_DEVICE="1")
        self.assertEqual(status, 1, output)
        self.assertIn("no made-up device can be used", output)
        self.assertFalse([start for start in starts if start.startswith("prepare_corpus")])

    def test_corpus_too_small_for_a_step(self):
        status, output, starts = self.run_job("--scale", "gpt2", "--configs", "sm_r", FAKE_WINDOWS="511")
        self.assertEqual((status, self.trained(starts)), (1, []), output)
        self.assertIn("too small for one step", output)

    def test_corpus_of_several_shards_is_refused(self):
        for split, first in (("train", "train_000001.bin"), ("held_out", "val_000001.bin")):
            with self.subTest(split):
                self.out = self.root / split
                status, output, starts = self.run_job("--configs", "sm_r", FAKE_SHARDS=f"{split}:3")
                self.assertEqual((status, self.trained(starts)), (1, []), output)
                place = self.out / "corpus" / "T128" / first
                self.assertIn(f"a split fills 3 shards, {place} and the next", output)
                self.assertIn("give a smaller --corpus.", output)

    def test_changed_recipe_of_a_run_is_refused(self):
        self.assertEqual(self.run_job("--configs", "sm_r")[0], 0)
        path = self.folder("sm_r") / "run.json"
        kept = json.loads(path.read_text())
        kept["recipe"]["learning_rate"] = 1.0
        path.write_text(json.dumps(kept))
        status, output, starts = self.run_job("--configs", "sm_r")
        self.assertEqual((status, self.trained(starts)), (1, []), output)
        self.assertIn("was started with learning_rate 1.0, not 0.002", output)

    def test_refusals_of_the_corpus_give_advice_that_can_be_followed(self):
        for refusal, words, foreign in (
            ("they give at most 300 pieces; take more text or a smaller vocabulary.", "--corpus", "vocabulary"),
            ("none gives one window; raise --held-out or give a larger corpus.", "--corpus", "--held-out"),
            ("it holds another; choose another --out or give --overwrite.", "remove " + str(self.out), "--overw"),
            ("it is not UTF-8; mend it, or leave it out with --skip-invalid.", "with --skip-invalid", "--scale"),
            ("the corpus is empty.", "empty", "--scale"),
        ):
            with self.subTest(refusal=refusal):
                status, output, starts = self.run_job("--configs", "sm_r", FAKE_REFUSAL=refusal)
                self.assertEqual((status, self.trained(starts)), (1, []), output)
                self.assertIn("preparing the corpus: " + refusal.partition(";")[0], output)
                self.assertIn(words, output)
                self.assertNotIn(foreign, output)

    def test_what_is_invalid_is_left_out_when_asked(self):
        refusal = {"FAKE_REFUSAL": "it is not UTF-8; leave it out with --skip-invalid."}
        job = ("--configs", "sm_r")
        self.assertEqual(self.run_job(*job, **refusal)[0], 1)
        status, output, starts = self.run_job(*job, "--skip-invalid", **refusal)
        self.assertEqual(status, 0, output)
        self.assertTrue(any("--skip-invalid" in start for start in starts), starts)
        self.assertIn(" --skip-invalid", (self.out / "report.md").read_text())
        status, output, starts = self.run_job(*job)
        self.assertEqual((status, starts), (1, []), output)
        self.assertIn("was prepared with --skip-invalid; give it again", output)

    def test_leaving_out_changes_nothing_where_nothing_is_invalid(self):
        job = ("--configs", "sm_r")
        self.assertEqual(self.run_job(*job)[0], 0)
        status, output, starts = self.run_job(*job, "--skip-invalid")
        self.assertEqual(status, 0, output)
        self.assertFalse(any("--skip-invalid" in start for start in starts), starts)

    def test_names_may_be_any_bytes(self):
        latin = os.fsdecode(b"caf\xe9\n")
        self.corpus, self.out = self.root / latin, self.root / f"run_{latin}"
        self.corpus.mkdir()
        for rendered in (False, True):
            status, output, _ = self.run_job("--configs", "sm_r", rendered=rendered, LC_ALL="C.UTF-8")
            self.assertEqual(status, 0, output)
        self.assertTrue(self.results()["corpus"]["input"].endswith("/caf\\xe9\\x0a"))
        self.assertIn("caf\\xe9\\x0a", (self.out / "report.html").read_text(encoding="utf-8"))

    def test_changed_corpus_is_refused(self):
        self.assertEqual(self.run_job("--configs", "sm_r")[0], 0)
        status, output, _ = self.run_job("--configs", "sm_g", FAKE_WINDOWS="7")
        self.assertEqual(status, 1, output)
        self.assertIn("no longer the one", output)

    def test_corpus_that_lies_elsewhere_is_the_same(self):
        self.assertEqual(self.run_job("--configs", "sm_r")[0], 0)
        path = self.out / "corpus.json"
        bound = json.loads(path.read_text())
        for report in bound["prepared"].values():
            report |= {"arguments": {"inputs": ["/elsewhere"]}, "inputs": {"files": 1, "bytes": 1}}
        path.write_text(json.dumps(bound))
        status, output, starts = self.run_job("--configs", "sm_r")
        self.assertEqual((status, self.trained(starts)), (0, []), output)


class GridTest(unittest.TestCase):
    """The planned runs, without running them."""

    def test_names_are_unique_and_come_back(self):
        for recipe in RECIPES:
            self.assertEqual(len(experiments.grid(["all"], "demo", recipe, [0, 1])), 56)
            specs = experiments.grid(experiments.EXPERIMENTS, "demo", recipe, [0, 1])
            self.assertEqual(len({spec.name for spec in specs}), len(specs))
            self.assertEqual(len({spec.label for spec in specs}), len(specs))
            for spec in specs:
                self.assertEqual(runs.Spec.from_json(json.loads(json.dumps(spec.as_json()))), spec)

    def test_tokens_do_not_depend_on_the_context(self):
        for scale in ("smoke", "demo"):
            specs = experiments.grid(["pythia"], scale, "paper", [0])
            tokens = {runs.tokens_of(runs.recipe_of(spec, scale, 0)) for spec in specs}
            self.assertEqual(len(tokens), 1)

    def test_the_longest_run_of_a_seed_comes_first(self):
        grid = experiments.grid(["removal"], "demo", "paper", range(2))
        waiting = [argparse.Namespace(spec=spec, recipe=runs.recipe_of(spec, "demo", 100_000)) for spec in grid]
        ordered = [(job.spec.seed, runs.tokens_of(job.recipe)) for job in jobs.longest_first(waiting)]
        self.assertEqual([seed for seed, _ in ordered], [0] * 12 + [1] * 12)
        for seed in range(2):
            tokens = [tokens for of, tokens in ordered if of == seed]
            self.assertEqual(tokens, sorted(tokens, reverse=True))
            self.assertGreater(tokens[0], tokens[-1])

    def test_names_tell_what_a_run_needs(self):
        """Each difference in a prerequisite gives another name."""
        plain = runs.Spec("demo", "sm_ln_g", 128, 0)
        others = [plain] + [
            dataclasses.replace(plain, **change)
            for change in (
                {"shape": "pythia_demo"},
                {"config": "sm_g"},
                {"context": 64},
                {"seed": 1},
                {"recipe": "clean"},
                {"rate_factor": 2},
                {"options": (("hidden_penalty", 1e-5),)},
                {"init_from": plain},
                {"teacher": plain},
            )
        ]
        specs = [
            dataclasses.replace(student, **{link: other})
            for student in [plain, *others]
            for other in others
            for link in runs.LINKS
            if getattr(student, link) is None
        ]
        self.assertEqual(len({spec.name for spec in specs}), len(set(specs)))
        for spec in specs:
            self.assertEqual(runs.Spec.from_json(json.loads(json.dumps(spec.as_json()))), spec)
        # A run of an earlier version has fewer fields.
        self.assertEqual(runs.Spec.from_json({"shape": "demo", "config": "sm_ln_g", "context": 128, "seed": 0}), plain)

    def test_layers_that_take_turns(self):
        for config, four, five, name in (
            ("sm_relu_gelu", "RRGG", "RRGGG", "ReLU, then GELU"),
            ("sm_gelu_relu", "GGRR", "GGRRR", "GELU, then ReLU"),
            ("sm_alternating", "RGRG", "RGRGR", "ReLU, in turn with GELU"),
        ):
            configuration = CONFIGURATIONS[config]
            for layers in (four, five):
                found = configuration.activations(len(layers))
                self.assertEqual("".join(name[0] for name in found), layers)
                self.assertEqual(configuration.layers_by_activation(len(layers))["ReLU"], layers.count("R"))
            self.assertEqual(configuration.activation_name, name)

    def test_recipes(self):
        paper, *others = (
            runs.recipe_of(next(iter(experiments.grid(["slopes"], "gpt2", recipe, [0]))), "gpt2", 16_700_000)
            for recipe in RECIPES
        )
        self.assertEqual([recipe["dropout"] for recipe in (paper, *others)], [0.1, 0.0, 0.0])
        self.assertEqual(paper["steps"], 32617)
        self.assertEqual(paper["learning_rate"], 1e-3)


class CommandLineTest(unittest.TestCase):
    """reproduce.sh reports mistakes before it installs or builds anything."""

    def test_mistakes(self):
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "file"
            file.write_text("")
            # A PATH folder with only what the checks need, so that nothing can be installed or built.
            tools = Path(place) / "tools"
            tools.mkdir()
            for tool in ("bash", "dirname", "realpath", "sed"):
                (tools / tool).symlink_to(subprocess.check_output(["which", tool], text=True).strip())
            for options, words in (
                (["--scale", "huge"], "unknown scale 'huge'"),
                (["--configs", "sm_ln_g,sm_x"], "unknown configuration 'sm_x'"),
                (["--corpus", place + "/none"], "does not exist"),
                (["--skip-invalid", "--corpus", place + "/none"], "does not exist"),
                (["--skip-invalid=yes"], "unknown option"),
                (["--seed", "-1"], "--seed '-1'"),
                (["--out", str(file)], "is a file"),
                (["--seed"], "--seed needs a value"),
                (["--seeds", "0"], "--seeds '0'"),
                (["--experiment", "all figures"], "unknown experiment 'figures'"),
                (["--recipe", "dirty"], "unknown recipe 'dirty'"),
                (["--device", "tpu"], "unknown device 'tpu'"),
                (["--device", "cuda"], "needs CUDA's compiler nvcc"),
                (["--ranks", "3"], "--ranks '3' is not one of"),
                (["--epochs", "3"], "unknown option '--epochs'"),
            ):
                with self.subTest(options=options):
                    job = subprocess.run(
                        [EXAMPLES / "reproduce.sh", *options],
                        env={"PATH": str(tools), "CUDA_PATH": place},
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
            [sys.executable, EXAMPLES / "reproduce"],
            [sys.executable, EXAMPLES / "reproduce" / "report.py"],
        ):
            output = subprocess.run([*command, "--help"], text=True, capture_output=True, check=True).stdout
            self.assertIn("install_dependencies.sh" if "install" in str(command[-1]) else "--", output)


if __name__ == "__main__":
    unittest.main()
