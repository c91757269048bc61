"""Training with several processes started by mpirun.

    test_ranks.py MPIRUN TRAIN_DEMO_SM_R_MPI TRAIN_TINY_MPI
"""

import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

if len(sys.argv) < 4:
    sys.exit(__doc__)
MPIRUN, PROGRAM, TINY = (Path(os.path.abspath(sys.argv.pop(1))) for _ in range(3))
# MPICH's mpirun always allows root, and more ranks than cores.
IS_OPEN_MPI = "HYDRA" not in subprocess.run([MPIRUN, "--version"], capture_output=True, text=True).stdout
LAUNCH = [MPIRUN, *["--oversubscribe", "--allow-run-as-root"] * IS_OPEN_MPI, "-n"]
RANK = b"OMPI_COMM_WORLD_RANK=" if IS_OPEN_MPI else b"PMI_RANK="
# Tests share the cores, so waiting threads must not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

CONTEXT, VOCABULARY = 128, 4096  # of the demo shape
MAX_SECONDS = 30  # from a fault to the end of all processes


def shard(path, windows, seed):
    tokens = random.Random(seed).choices(range(VOCABULARY), k=windows * CONTEXT)
    header = struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253)
    path.write_bytes(header + struct.pack(f"<{len(tokens)}H", *tokens))
    return path


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("tokens_per_second", None)
    return lines


def size_of_weights(path):
    """Bytes of all tensors of a safetensors file, which must be whole."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    ends = [entry["data_offsets"][1] for name, entry in json.loads(content[8 : 8 + size]).items() if name[0] != "_"]
    assert max(ends) == len(content) - 8 - size, f"{path} is not whole"
    return max(ends)


def processes_of(out):
    """The ranks of the run in a folder, by number."""
    ranks = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[0] == os.fsencode(PROGRAM) and os.fsencode(out) in arguments:
            number = next(entry for entry in environment if entry.startswith(RANK))
            ranks[int(number.split(b"=")[1])] = int(process.name)
    return ranks


def runs(process):
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Ranks(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="lnfree-test-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.train = shard(self.folder / "train.bin", 40, seed=1)
        self.val = shard(self.folder / "val.bin", 3, seed=2)

    def command(self, ranks, program, *arguments):
        """`ranks` None: without mpirun."""
        launch = [] if ranks is None else [*LAUNCH, ranks]
        return [str(x) for x in [*launch, program, *arguments]]

    def call(self, ranks, *arguments, program=PROGRAM):
        return subprocess.run(self.command(ranks, program, *arguments), capture_output=True, text=True, timeout=1200)

    def succeed(self, ranks, *arguments, program=PROGRAM):
        result = self.call(ranks, *arguments, program=program)
        self.assertEqual(result.returncode, 0, f"{ranks} ranks, {arguments}: {result.stdout}{result.stderr}")
        return result.stdout

    def training(self, out, *more, steps=10):
        return ["--train", self.train, "--val", self.val, "--out", out, "--steps", steps, "--step-windows", 8,
                "--batch-size", 1, "--threads", 1, "--log-every", 1, "--observe-every", 4, "--eval-every", 5,
                *more]  # fmt: skip

    def start(self, ranks, out, *more, steps=1000000):
        """A run that has trained at least a step, and its ranks."""
        command = self.command(ranks, PROGRAM, *self.training(out, *more, steps=steps))
        program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(program.stdout.close)
        self.addCleanup(program.wait)
        self.addCleanup(program.kill)
        for line in program.stdout:
            if line.startswith("step "):
                found = processes_of(out)
                self.assertEqual(sorted(found), list(range(ranks)))
                return program, found
        self.fail("the program did not train")

    def end(self, program, found):
        """The exit status and the rest of the output of a program that is about to end, with all its ranks."""
        start = time.monotonic()
        output = program.stdout.read()
        status = program.wait(MAX_SECONDS)
        while any(runs(process) for process in found.values()):
            self.assertLess(time.monotonic() - start, MAX_SECONDS, output)
            time.sleep(0.05)
        return status, output

    def assert_same_run(self, a, b):
        for name in ("model.safetensors", "optimizer.safetensors", "config.json"):
            same = (a / "checkpoint" / name).read_bytes() == (b / "checkpoint" / name).read_bytes()
            self.assertTrue(same, f"{name} of {b.name} differs")
        self.assertEqual(metrics(a), metrics(b))

    def test_any_number_of_ranks_gives_the_same_bits(self):
        alone = self.folder / "alone"
        self.succeed(None, *self.training(alone, "--observe-signal"))
        for ranks, options in ((1, []), (2, []), (4, []), (2, ["--zero"]), (4, ["--zero"])):
            with self.subTest(ranks=ranks, options=options):
                run = self.folder / " ".join([str(ranks), *options])
                output = self.succeed(ranks, *self.training(run, "--observe-signal", *options))
                self.assert_same_run(alone, run)
                self.assertEqual(output.count("finished"), 1)
                if ranks == 1:
                    continue
                sent = int(re.search(r"each step sent (\d+) bytes", output)[1])
                expected = 2 * (ranks - 1) / ranks * size_of_weights(run / "checkpoint" / "model.safetensors")
                self.assertLess(abs(sent / expected - 1), 0.01)

    def test_other_models_and_optimizers(self):
        for model in ("adamw", "muon", "guided", "tapered"):
            folders = []
            for ranks, zero in ((1, []), (2, []), (4, ["zero"])):
                with self.subTest(model=model, ranks=ranks, zero=zero):
                    folders.append(self.folder / f"{model}{ranks}")
                    folders[-1].mkdir()
                    self.succeed(ranks, model, folders[-1], *zero, program=TINY)
                    self.assert_same_run(folders[0] / "run", folders[-1] / "run")

    def test_a_run_of_four_that_one_signal_stops_goes_on_with_two(self):
        whole, run = self.folder / "whole", self.folder / "run"
        self.succeed(None, *self.training(whole, steps=40))
        program, found = self.start(4, run, "--zero", steps=40)
        os.kill(found[2], signal.SIGTERM)
        status, output = self.end(program, found)
        self.assertEqual(status, 128 + signal.SIGTERM, output)
        step = json.loads((run / "checkpoint" / "trainer.json").read_text())["step"]
        self.assertTrue(0 < step < 40)
        self.assertIn(f"stopped at step {step}", output)
        self.assertIn(f"resumed at step {step}", self.succeed(2, *self.training(run, "--resume", steps=40)))
        self.assert_same_run(whole, run)

    def test_an_evaluation_is_the_same(self):
        run = self.folder / "run"
        self.succeed(None, *self.training(run, steps=0))
        evaluation = ["--evaluate-only", "--init-from", run / "checkpoint" / "model.safetensors", "--val", self.val,
                      "--batch-size", 1, "--threads", 1, "--observe-signal", "--json"]  # fmt: skip
        results = []
        for ranks in (None, 2, 4):  # one of which has nothing to do: there are 3 windows
            results.append(self.folder / f"{ranks}.json")
            self.succeed(ranks, *evaluation, results[-1])
            self.assertEqual(results[0].read_text(), results[-1].read_text())
        self.refuse(3, *evaluation, self.folder / "3.json", says=["cannot be shared by 3 ranks"])

    def test_a_run_that_diverges(self):
        """Also if each rank has only a part of the gradients."""
        folders = []
        for ranks, options in ((None, []), (4, []), (4, ["--zero"])):
            folders.append(self.folder / " ".join([str(ranks), *options]))
            wild = ["--learning-rate", 1e30, "--warmup-ratio", 0, "--max-gradient-norm", 0, *options]
            result = self.call(ranks, *self.training(folders[-1], *wild))
            self.assertEqual(result.returncode, 3, result.stderr)
            self.assertIn("diverged on rank 0:" if ranks else "diverged:", result.stdout)
            self.assertEqual(metrics(folders[0]), metrics(folders[-1]))

    def test_a_rank_that_dies_ends_all(self):
        run = self.folder / "run"
        program, found = self.start(4, run, "--checkpoint-every", 1)
        os.kill(found[1], signal.SIGKILL)
        status, output = self.end(program, found)
        self.assertNotEqual(status, 0)
        self.assertRegex(output, r"(?i)rank 1.* (signal 9|killed)|Killed \(signal 9\)")
        for name in ("model.safetensors", "optimizer.safetensors"):
            size_of_weights(run / "checkpoint" / name)
        self.assertEqual(sorted(path.name for path in run.iterdir()), ["checkpoint", "metrics.jsonl"])

    def test_a_rank_that_hangs_ends_all(self):
        run = self.folder / "run"
        program, found = self.start(2, run, "--rank-timeout", 10, "--checkpoint-every", 0)
        os.kill(found[1], signal.SIGSTOP)
        status, output = self.end(program, found)
        self.assertEqual(status, 1, output)
        self.assertRegex(output, r"rank 0: waited 1\d[.\d]* s for .*; resume from the last checkpoint")
        size_of_weights(run / "checkpoint" / "model.safetensors")

    @unittest.skipUnless(IS_OPEN_MPI, "MPICH's own files would be too large as well")
    def test_a_disk_that_is_full_ends_all(self):
        """Simulated by a limit on file size that the first checkpoint stays below."""
        run = self.folder / "run"
        words = self.command(None, PROGRAM, *self.training(run))
        both = [*map(str, LAUNCH), "1", "bash", "-c", 'ulimit -f 1000 && exec "$@"', "bash", *words, ":", "-n", "1", *words]
        result = subprocess.run(both, capture_output=True, text=True, timeout=600, env=os.environ | {"OMPI_MCA_btl": "tcp,self"})
        self.check_refusal(result, ["model.safetensors", "File too large"])
        self.succeed(2, *self.training(run))

    def refuse(self, ranks, *arguments, says):
        self.check_refusal(self.call(ranks, *arguments), says)

    def check_refusal(self, result, says):
        self.assertEqual(result.returncode, 1, result.stderr)
        own = [line for line in result.stderr.splitlines() if line.startswith(PROGRAM.name)]
        self.assertEqual(len(own), 1, result.stderr)
        for word in says:
            self.assertIn(word, own[0])

    def test_what_makes_no_sense_is_refused_in_one_sentence(self):
        run = self.folder / "run"
        self.refuse(3, *self.training(run), says=["8 passes", "3 ranks: start 1, 2, 4 or 8 ranks"])
        self.refuse(2, *self.training(run, "--dropout", 7), says=["--dropout: 7 is not"])
        data = ["--train", self.train, "--out", run]
        self.refuse(2, "--train", self.folder / "none.bin", "--out", run, says=["none.bin"])
        self.refuse(2, *data, "--step-windows", 9, "--batch-size", 2, says=["9 is not a multiple of --batch-size 2"])
        self.refuse(2, *data, "--step-windows", 9, says=["9 passes", "start 1 rank,"])
        self.refuse(2, *data, "--batch-size", 1, "--profile", 1, says=["--profile needs a single process"])
        # Ranks that were started with different options.
        for options, says in ((["--seed", 7], "rank 1 was started with other options"), (["--seed", "x"], "--seed")):
            second = self.command(None, PROGRAM, *self.training(run, *options))
            both = [*self.command(1, PROGRAM, *self.training(run)), ":", "-n", "1", *second]
            self.check_refusal(subprocess.run(both, capture_output=True, text=True, timeout=600), [says])
        self.assertFalse(run.exists())


if __name__ == "__main__":
    unittest.main()
