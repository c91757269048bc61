"""How the programs of examples/interop convert metrics.jsonl: TensorBoard's events are read back by
TensorBoard, and the calls to the other packages are compared with their documentation.

    test_exports.py ENVIRONMENT    folder of a Python environment with tensorboard, created if missing
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INTEROP = ROOT / "examples" / "interop"
sys.path.insert(0, str(ROOT / "examples" / "reproduce"))
from metrics import Metrics, by_step, series

# With Debian's numpy, which the report also uses.
PACKAGES = ("tensorboard==2.20.0", "protobuf==6.33.0", "absl-py==2.3.1")

READ_BACK = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "histograms": 0})
events.Reload()
tags = events.Tags()
print(json.dumps({
    "scalars": {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags["scalars"]},
    "histograms": {tag: [[e.step, e.histogram_value.num, e.histogram_value.sum] for e in events.Histograms(tag)]
                   for tag in tags["histograms"]},
}))
"""

# Replaces wandb and trackio, recording every call.
STUB = """
import json, os
def note(*what):
    with open(os.environ["STUB_CALLS"], "a") as file:
        file.write(json.dumps([__name__, *what]) + "\\n")
class Run:
    def log(self, numbers, step): note("log", step, {name: repr(x) for name, x in numbers.items()})
    def finish(self): note("finish")
def init(**options):
    note("init", options, os.environ.get("TRACKIO_DIR"))
    return Run()
def log(numbers, step): Run().log(numbers, step)
def finish(): Run().finish()
"""


def environment(folder):
    """Python in an environment that has PACKAGES."""
    python = folder / "bin" / "python"
    mark = folder / "packages.txt"
    if not mark.exists() or mark.read_text() != "\n".join(PACKAGES):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "10", "--no-deps", *PACKAGES]
        subprocess.run(install, check=True)
        mark.write_text("\n".join(PACKAGES))
    return python


def lines_of(step, loss=None):
    """The lines that a trainer writes at an observed step."""
    entropy = [[step + layer + head / 10 for head in range(2)] for layer in range(3)]
    return [
        {"kind": "entropy", "step": step, "head_entropy": entropy, "nonfinite_rows": 0},
        {"kind": "slopes", "step": step, "slopes": [0.25]},
        {"kind": "stream", "step": step, "rms": [1.0, None, 3.0]},
        {"kind": "weights", "step": step, "attn.c_attn": [[1, 2, 3]] * 3},
        {"kind": "train", "step": step, "loss": 8.0 - step if loss is None else loss},
    ]


def text_of(lines):
    return "".join(json.dumps(line) + "\n" for line in lines)


class Exports(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = Path(place.name)
        self.run_folder = self.place / "run"
        (self.run_folder / "checkpoint").mkdir(parents=True)
        (self.run_folder / "checkpoint" / "config.json").write_text('{"n_layer": 3}')
        (self.run_folder / "checkpoint" / "trainer.json").write_text('{"step": 2, "course": {"seed": 7}}')
        self.log = self.run_folder / "metrics.jsonl"
        end = {"kind": "diverged", "step": 2, "loss": None, "tensor": "wte"}
        self.log.write_text(text_of([*lines_of(0), *lines_of(1), end]))

    def call(self, program, *arguments, path=None):
        calls = self.place / "calls"
        calls.unlink(missing_ok=True)
        more = {"PYTHONPATH": str(path), "STUB_CALLS": str(calls)} if path else {}
        command = [str(word) for word in (PYTHON, "-B", INTEROP / program, *arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | more, timeout=1200)
        return done, [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    def read_back(self, folder):
        done = subprocess.run([PYTHON, "-c", READ_BACK, folder], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def test_series(self):
        entropy, slopes, stream, weights, _ = (series(line) for line in lines_of(4))
        self.assertEqual(len(entropy), 7)
        self.assertEqual(entropy["entropy/head_entropy/layer_2/head_1"], 6.1)
        self.assertEqual(slopes, {"slopes": 0.25})
        self.assertTrue(math.isnan(stream["stream/rms/layer_1"]))
        self.assertEqual(weights["weights/attn.c_attn/layer_0/value"], 3)
        many = series({"kind": "entropy", "step": 0, "head_entropy": [[1.0] * 12] * 12})
        self.assertIn("entropy/head_entropy/layer_03/head_11", many)

    def test_a_file_that_grows(self):
        """Only whole lines are read; a file that was cut back and rewritten is read again."""
        metrics = Metrics(self.log)
        self.assertEqual((len(metrics.update()[0]), metrics.update()), (11, ([], False)))
        with open(self.log, "a", encoding="utf-8") as file:
            file.write('{"kind": "train", "step": 2, "lo')
            file.flush()
            self.assertEqual(metrics.update(), ([], False))
            file.write('ss": 1.5}\nno JSON\n[1]\n{"kind": "train"}\n')
            file.flush()
            self.assertEqual(metrics.update(), ([{"kind": "train", "step": 2, "loss": 1.5}], False))
        longer = text_of([*lines_of(0), *lines_of(1, 6.5), *lines_of(2), *lines_of(3)])
        self.assertGreater(len(longer), self.log.stat().st_size)
        self.log.write_text(longer)
        entries, anew = metrics.update()
        self.assertEqual((len(entries), anew), (20, True))
        self.assertEqual(metrics.update(), ([], False))
        self.log.unlink()
        self.assertEqual(metrics.update(), ([], True))

    def test_tensorboard_reads_its_events(self):
        done, _ = self.call("to_tensorboard.py", self.run_folder, "--out", self.place / "events")
        self.assertEqual(done.returncode, 0, done.stderr)
        again, _ = self.call("to_tensorboard.py", self.run_folder, "--out", self.place / "events")
        self.assertEqual(again.returncode, 0, again.stderr)
        found = self.read_back(self.place / "events" / "run")
        self.assertEqual(found["scalars"]["train/loss"], [[0, 8], [1, 7]])
        head = found["scalars"]["entropy/head_entropy/layer_2/head_0"]
        self.assertEqual(head, [[0, 2], [1, 3]])
        self.assertTrue(math.isnan(found["scalars"]["diverged/loss"][0][1]))
        (name, [first, second]), = found["histograms"].items()
        self.assertEqual((name, first[:2]), ("entropy/head_entropy/heads", [0, 6]))
        self.assertAlmostEqual(second[2], 6 + 2 * 3 + 3 * 0.1, places=5)

    def test_tensorboard_follows(self):
        events = self.place / "events"
        command = [PYTHON, "-B", INTEROP / "to_tensorboard.py", self.run_folder, "--out", events, "--follow"]
        program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(program.communicate)
        self.addCleanup(program.kill)
        self.assertIn(b"11 lines", program.stdout.readline())

        def wait_for(expected):
            deadline = time.monotonic() + 60
            while self.read_back(events / "run")["scalars"].get("train/loss") != expected:
                self.assertLess(time.monotonic(), deadline, f"{expected} did not appear in time")
                time.sleep(0.2)

        wait_for([[0, 8], [1, 7]])
        # The run resumes from a checkpoint before step 1.
        self.log.write_text(text_of([*lines_of(0), *lines_of(1, 6.5), *lines_of(2, 5.0), *lines_of(3, 4.0)]))
        wait_for([[0, 8], [1, 6.5], [2, 5], [3, 4]])
        program.send_signal(signal.SIGINT)
        self.assertEqual(program.wait(30), 130)

    def test_wandb_and_trackio(self):
        stubs = self.place / "stubs"
        stubs.mkdir()
        for package in ("wandb", "trackio"):
            (stubs / f"{package}.py").write_text(STUB)
            with self.subTest(package):
                out = self.place / package
                done, calls = self.call(f"to_{package}.py", self.run_folder, "--out", out, "--project", "p", path=stubs)
                self.assertEqual(done.returncode, 0, done.stderr)
                (_, _, options, folder), *logged, finish = calls
                self.assertEqual((options["project"], options["name"]), ("p", "run"))
                self.assertEqual(options["config"], {"n_layer": 3, "seed": 7})
                if package == "wandb":
                    self.assertEqual((options["mode"], options["dir"]), ("offline", str(out)))
                else:
                    self.assertEqual(folder, str(out.resolve()))
                self.assertEqual([call[2] for call in logged], [0, 1, 2])
                self.assertEqual(logged[1][3]["train/loss"], "7.0")
                self.assertEqual(logged[1][3]["entropy/head_entropy/layer_2/head_1"], "3.1")
                self.assertEqual(finish, [package, "finish"])

    def test_steps_are_in_order(self):
        lines = [*lines_of(1), *lines_of(0), {"kind": "train", "step": 1, "loss": 2.0}]
        steps = by_step(lines)
        self.assertEqual([step for step, _ in steps], [0, 1])
        self.assertEqual(steps[1][1]["train/loss"], 2.0)

    def test_folders(self):
        """A folder of reproduce.sh stands for all of its runs; other folders are refused before anything is
        written."""
        root = self.place / "root"
        for name in ("a", "b"):
            shutil.copytree(self.run_folder, root / "runs" / name)
        done, _ = self.call("to_tensorboard.py", root, "--out", self.place / "events")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(path.name for path in (self.place / "events").iterdir()), ["a", "b"])
        out = self.place / "nothing"
        for folders in ((self.place,), (self.run_folder, root / "runs" / "a", root / "x")):
            for program in ("to_tensorboard.py", "to_wandb.py", "to_trackio.py"):
                done, _ = self.call(program, *folders, "--out", out)
                self.assertEqual(done.returncode, 1)
                self.assertIn("holds no run", done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1)
                self.assertFalse(out.exists())
        shutil.copytree(self.run_folder, self.place / "other" / "run")
        done, _ = self.call("to_tensorboard.py", self.run_folder, self.place / "other" / "run", "--out", out)
        self.assertIn("have the same name", done.stderr)

    def test_a_missing_package_is_named(self):
        stubs = self.place / "stubs"
        stubs.mkdir()
        for package in ("tensorboard", "wandb", "trackio"):
            (stubs / f"{package}.py").write_text("raise ImportError('not here')")
            done, _ = self.call(f"to_{package}.py", self.run_folder, "--out", self.place / "out", path=stubs)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"pip install {package}", done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PYTHON = environment(Path(sys.argv.pop(1)).resolve())
    unittest.main()
