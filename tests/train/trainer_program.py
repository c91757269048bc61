"""The trainer programs seen from outside: bad input, signals, kills, what they write.

    trainer_program.py TRAIN_DEMO_SM_R TRAIN_DEMO_SM_LN_G
"""

import hashlib
import json
import math
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

PROGRAM, NORMED = None, None  # paths of the two programs, from the command line

# The demo shape, DecoderConfig demo in core/config.hpp.
LAYERS, HEADS, CONTEXT, VOCABULARY = 8, 4, 128, 4096

BATCH = 2
COMMON = ["--batch-size", BATCH, "--threads", 1, "--eval-every", 0, "--observe-every", 0]


def shard(path, windows, seed=0, tokens=None):
    """A token shard in llm.c's format: 256 little-endian int32, of which three say something, then uint16."""
    tokens = tokens or random.Random(seed).choices(range(VOCABULARY), k=windows * CONTEXT)
    header = struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253)
    path.write_bytes(header + struct.pack(f"<{len(tokens)}H", *tokens))
    return path


def read_weights(path):
    """Header and data of a safetensors file; fails when it is not whole."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    assert max(ends) == len(content) - 8 - size, f"{path} is not whole"
    return header, content[8 + size :]


def content(folder):
    """What is in a folder: the hash of every file, and every name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("tokens_per_second", None)
    return lines


def losses(run):
    return [line["loss"] for line in metrics(run) if line["kind"] == "train"]


def limit_memory(limit):
    """What sets the limit in a program before it starts; None without one."""
    return limit and (lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))


class TrainerTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="lnfree-test-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.train = shard(self.folder / "train.bin", 7, seed=1)
        self.val = shard(self.folder / "val.bin", 3, seed=2)

    def call(self, *arguments, program=None, limit=None):
        """`limit` is that of the program's memory in bytes."""
        command = [str(x) for x in [program or PROGRAM, *arguments]]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=limit_memory(limit))

    def succeed(self, *arguments, program=None, limit=None):
        result = self.call(*arguments, program=program, limit=limit)
        self.assertEqual(result.returncode, 0, f"{arguments}: {result.stderr}")
        return result

    def training(self, out, steps, *more):
        return ["--train", self.train, "--out", out, "--steps", steps, *COMMON, *more]

    def refuse(self, *arguments, says, program=None, limit=None):
        """The program must exit with 1 and one line that holds every word of `says`; no file may change."""
        before = content(self.folder)
        result = self.call(*arguments, program=program, limit=limit)
        self.assertEqual(result.returncode, 1, f"{arguments}: {result.stderr}")
        self.assertTrue(result.stderr.startswith((program or PROGRAM).name + ": "), result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertLess(len(result.stderr), 500)
        for word in says:
            self.assertIn(word, result.stderr)
        self.assertEqual(content(self.folder), before)

    def start(self, *arguments, limit=None):
        """A program that has trained at least a step."""
        command = [str(x) for x in [PROGRAM, *arguments]]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        program = subprocess.Popen(command, **pipes, preexec_fn=limit_memory(limit))
        self.addCleanup(program.stdout.close)
        self.addCleanup(program.stderr.close)
        self.addCleanup(program.wait)
        self.addCleanup(program.kill)
        for line in program.stdout:
            if line.startswith("step "):
                return program
        self.fail(f"the program did not train: {program.stderr.read()}")

    def assert_same_run(self, a, b):
        for name in ("model.safetensors", "optimizer.safetensors", "config.json"):
            same = (a / "checkpoint" / name).read_bytes() == (b / "checkpoint" / name).read_bytes()
            self.assertTrue(same, f"{name} differs")
        self.assertEqual(metrics(a), metrics(b))


class BadInput(TrainerTest):
    def test_shards(self):
        out = self.folder / "run"

        def refuse(path, *says):
            self.refuse("--train", path, "--out", out, "--steps", 1, *COMMON, says=[path.name, *says])
            self.refuse(
                "--train", self.train, "--val", path, "--out", out, "--steps", 1, *COMMON, says=[path.name, *says]
            )

        bad = self.folder / "bad.bin"
        refuse(bad, "No such file")
        bad.write_bytes(b"")
        refuse(bad, "empty")
        whole = self.train.read_bytes()
        bad.write_bytes(whole[:-2])
        refuse(bad, "truncated")
        bad.write_bytes(whole[:100])
        refuse(bad, "truncated")
        bad.write_bytes(b"import os\n" * 200)
        refuse(bad, "not a token shard")
        shard(bad, 0, tokens=[1] * (CONTEXT - 1))
        refuse(bad, f"{CONTEXT - 1} tokens")
        tokens = [1] * (2 * CONTEXT)
        tokens[200] = VOCABULARY
        shard(bad, 0, tokens=tokens)
        refuse(bad, "token 200", str(VOCABULARY))

    def test_context(self):
        long = self.training(self.folder / "run", 1, "--context", CONTEXT + 1)
        self.refuse(*long, says=["--context 129", "context of 128"])

    def test_weights(self):
        self.succeed("--steps", 0, "--out", self.folder / "normed", program=NORMED)
        weights = self.folder / "normed" / "checkpoint" / "model.safetensors"

        def refuse(path, *says, program=None):
            start = self.training(self.folder / "run", 1, "--init-from", path)
            evaluation = ["--init-from", path, "--evaluate-only", "--val", self.val, "--json", self.folder / "e.json"]
            for arguments in (start, evaluation):
                self.refuse(*arguments, says=[path.name, *says], program=program)

        refuse(weights, "another architecture", "h.0.ln_1")
        bad = self.folder / "bad.safetensors"
        refuse(bad, "No such file")
        whole = weights.read_bytes()
        bad.write_bytes(whole[:-1])
        refuse(bad, "truncated", program=NORMED)
        bad.write_bytes(whole[:100])
        refuse(bad, "truncated", program=NORMED)
        bad.write_bytes(struct.pack("<Q", 1 << 60) + whole[8:])
        refuse(bad, "header", str(1 << 60), program=NORMED)
        bad.write_bytes(b"0123456789" * 100)
        refuse(bad, "safetensors", program=NORMED)
        header, data = read_weights(weights)
        header["wte.weight"]["shape"] = [VOCABULARY * 1000, 64]
        text = json.dumps(header).encode()
        bad.write_bytes(struct.pack("<Q", len(text)) + text + data)
        refuse(bad, "wte.weight", "needs", program=NORMED)

    def test_command_line(self):
        out = self.folder / "run"
        for arguments, says in (
            (["--out", out, "--wrong", 3], ["--wrong"]),
            (["--out", out, "word"], ["word"]),
            (["--out", out, "--steps"], ["--steps"]),
            (["--out", out, "--steps", "ten"], ["--steps", "ten is not a whole number"]),
            (["--out", out, "--steps", -1], ["--steps", "-1 is not"]),
            (["--out", out, "--batch-size", 0], ["--batch-size", "1 or more"]),
            (["--out", out, "--seed", -1], ["--seed", "-1"]),
            (["--out", out, "--learning-rate", "nan"], ["--learning-rate", "nan is not a number of 0 or more"]),
            (["--out", out, "--dropout", 1], ["--dropout", "from 0 to 0.999"]),
            (["--steps", 0], ["--out"]),
            (["--out", out, "--steps", 1], ["--train"]),
            (["--out", out, "--json", "x"], ["--json", "--evaluate-only"]),
            (["--profile", 2], ["--profile", "--train"]),
            (["--profile", 0], ["--profile", "1 or more"]),
            (["--evaluate-only", "--val", self.val], ["--evaluate-only", "--init-from"]),
            (["--evaluate-only", "--init-from", "x"], ["--val"]),
            (["--out", out, "--resume", "--init-from", "x"], ["--resume", "--init-from"]),
            (["--out", out, "--config", self.folder / "none.toml"], ["none.toml"]),
        ):
            with self.subTest(arguments):
                self.refuse(*arguments, says=says)
        config = self.folder / "config.toml"
        config.write_text("stepps = 3\n")
        self.refuse("--out", out, "--config", config, says=["stepps"])

    def test_out_in_the_way(self):
        (self.folder / "file").write_text("in the way")
        for out in (self.folder / "file", self.folder / "file" / "below", Path("/proc/none")):
            self.refuse(*self.training(out, 1), says=[str(out)])

    def test_out_that_holds_a_run(self):
        run = self.folder / "run"
        self.succeed(*self.training(run, 2))
        self.refuse(*self.training(run, 2), says=["already holds a run", "--resume"])
        self.refuse("--steps", 0, "--out", run, says=["already holds a run"])

    def test_resume(self):
        run = self.folder / "run"
        self.refuse(*self.training(run, 2, "--resume"), says=["no checkpoint to resume from"])
        self.succeed(*self.training(run, 2))
        self.refuse(*self.training(run, 3, "--resume"), says=["steps 2, not 3"])
        self.refuse(*self.training(run, 2, "--resume", "--no-shuffle"), says=["shuffle true, not false"])
        self.refuse(*self.training(run, 2, "--resume"), says=["another architecture", "activation_function"], program=NORMED)
        config = run / "checkpoint" / "config.json"
        config.write_text(config.read_text().replace('"relu"', '"gelu"'))
        self.refuse(*self.training(run, 2, "--resume"), says=["activation_function", "gelu", "relu"])
        config.unlink()
        self.refuse(*self.training(run, 2, "--resume"), says=["config.json"])

    def test_a_run_in_progress(self):
        run = self.folder / "run"
        program = self.start(*self.training(run, 100000, "--log-every", 1))
        second = self.call(*self.training(run, 100000, "--log-every", 1, "--resume"))
        self.assertEqual(second.returncode, 1)
        self.assertIn("another process", second.stderr)
        program.terminate()
        self.assertEqual(program.wait(60), 143)
        steps = [line["step"] for line in metrics(run)]
        self.assertEqual(steps, list(range(len(steps))))


class Runs(TrainerTest):
    def test_help(self):
        text = self.succeed("--help").stdout
        for name in (
            "train val steps batch-size accumulate step-windows plan-only learning-rate warmup-ratio weight-decay dropout init-std seed "
            "context decay-slopes no-decay-slopes shuffle no-shuffle eval-every log-every observe-every out resume init-from evaluate-only json config"
        ).split():
            self.assertIn("--" + name, text)
        self.assertNotRegex(text, r"TEXT|INT|FLOAT|UINT|\{|Excludes|Needs")

    def test_no_steps(self):
        self.succeed("--steps", 0, "--seed", 5, "--out", self.folder / "a")
        self.succeed("--steps", 0, "--seed", 5, "--out", self.folder / "b", program=NORMED)
        header, data = read_weights(self.folder / "a" / "checkpoint" / "model.safetensors")
        normed, normed_data = read_weights(self.folder / "b" / "checkpoint" / "model.safetensors")
        self.assertNotIn("h.0.ln_1.weight", header)
        self.assertIn("h.7.ln_2.bias", normed)
        self.assertEqual(header["h.3.attn.c_attn.bias"]["shape"], [192])
        self.assertEqual([n for n in header if n.endswith("bias") and "c_attn" not in n], ["ln_f.bias"])

        def tensor(name, header, data):
            begin, end = header[name]["data_offsets"]
            return data[begin:end]

        # One seed, one start, whatever the configuration.
        for name in ("wte.weight", "h.7.mlp.c_proj.weight"):
            self.assertEqual(tensor(name, header, data), tensor(name, normed, normed_data))
        self.assertEqual((self.folder / "a" / "metrics.jsonl").read_text(), "")

    def test_metrics(self):
        run = self.folder / "run"
        self.succeed("--train", self.train, "--val", self.val, "--out", run, "--steps", 5, "--batch-size", BATCH,
                     "--threads", 1, "--log-every", 2, "--observe-every", 3, "--eval-every", 2)  # fmt: skip
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        keys = {
            "train": ["kind", "step", "loss", "learning_rate", "gradient_norm", "tokens_per_second"],
            "eval": ["kind", "step", "eval_loss", "perplexity", "head_entropy", "nonfinite_rows", "rms", "kurtosis",
                     "zeros"],
            "entropy": ["kind", "step", "head_entropy", "nonfinite_rows"],
            "stream": ["kind", "step", "rms", "kurtosis", "zeros"],
        }
        for line in lines:
            self.assertEqual(list(line), keys[line["kind"]])
        steps = {kind: [line["step"] for line in lines if line["kind"] == kind] for kind in keys}
        self.assertEqual(steps, {"train": [0, 2, 4], "eval": [2, 4, 5], "entropy": [0, 3], "stream": [0, 3]})
        evaluation = next(line for line in lines if line["kind"] == "eval")
        self.assertAlmostEqual(math.exp(evaluation["eval_loss"]) / evaluation["perplexity"], 1, places=12)
        entropy = next(line for line in lines if line["kind"] == "entropy")
        self.assertEqual([len(layer) for layer in entropy["head_entropy"]], [HEADS] * LAYERS)
        self.assertEqual(entropy["nonfinite_rows"], 0)
        stream = next(line for line in lines if line["kind"] == "stream")
        self.assertEqual([len(stream[name]) for name in ("rms", "kurtosis", "zeros")], [LAYERS] * 3)
        self.assertTrue(all(1 <= kurtosis <= 64 for kurtosis in stream["kurtosis"]))
        self.assertTrue(all(0.2 < share < 0.8 for share in stream["zeros"]))  # ReLU

    def test_evaluation(self):
        self.succeed("--steps", 0, "--out", self.folder / "run")
        weights = self.folder / "run" / "checkpoint" / "model.safetensors"
        before = content(self.folder / "run")
        results = []
        for batch in (["--batch-size", 1], ["--batch-size", 2], ["--step-windows", 2]):
            output = self.folder / "evaluation.json"
            self.succeed("--init-from", weights, "--evaluate-only", "--val", self.val, "--json", output,
                         *batch, "--threads", 1, "--dropout", 0.5)  # fmt: skip
            results.append(json.loads(output.read_text()))
        for result in results:
            for key in ("eval_loss", "perplexity", "targets", "head_entropy", "nonfinite_rows", "rms", "kurtosis", "zeros"):
                self.assertIn(key, result)
            self.assertEqual(result["targets"], 3 * (CONTEXT - 1))
            self.assertEqual([len(layer) for layer in result["head_entropy"]], [HEADS] * LAYERS)
            self.assertAlmostEqual(math.exp(result["eval_loss"]) / result["perplexity"], 1, places=12)
        self.assertAlmostEqual(results[0]["eval_loss"], results[1]["eval_loss"], places=5)
        self.assertEqual(results[1], results[2])
        self.assertEqual(content(self.folder / "run"), before)

        # The same tensors under another activation are another model.
        config = weights.parent / "config.json"
        config.write_text(config.read_text().replace('"relu"', '"gelu"'))
        evaluation = ["--init-from", weights, "--evaluate-only", "--val", self.val, "--batch-size", 1]
        self.refuse(*evaluation, says=("another architecture", "activation_function", "gelu", "relu"))
        begun = self.succeed("--init-from", weights, "--steps", 0, "--out", self.folder / "begun")
        self.assertIn('its activation_function is "gelu", expected "relu"', begun.stdout)
        config.unlink()
        self.succeed(*evaluation)

    def test_profile(self):
        report = self.folder / "profile.json"
        options = ["--train", self.train, "--batch-size", BATCH, "--threads", 1, "--profile", 2]
        before = content(self.folder)
        text = self.succeed(*options, program=NORMED).stdout
        self.assertEqual(content(self.folder), before)
        for word in ("attention_backward", "norm_forward", "adamw", "outside the primitives", "mean of 2"):
            self.assertIn(word, text)
        self.succeed(*options, "--json", report)
        profile = json.loads(report.read_text())
        rows = {row["name"]: row for row in profile["primitives"]}
        self.assertEqual(profile["steps"], 2)
        self.assertAlmostEqual(sum(row["share"] for row in rows.values()), 1)
        self.assertAlmostEqual(
            sum(row["milliseconds_per_step"] for row in rows.values()), profile["milliseconds_per_step"]
        )
        self.assertEqual(rows["sum_of_squares"]["calls_per_step"], 1)

    def test_order(self):
        def run(name, *more):
            arguments = ["--log-every", 1, "--learning-rate", 0, "--dropout", 0, *more]
            self.succeed(*self.training(self.folder / name, 8, *arguments))
            return losses(self.folder / name)

        in_order = run("in order", "--no-shuffle")
        self.assertEqual(in_order, run("again", "--no-shuffle"))
        shuffled = run("shuffled", "--shuffle")
        self.assertNotEqual(in_order, shuffled)
        self.assertEqual(shuffled, run("default"))
        # With next to nothing learned (the rate ends at 1e-7) a batch has its loss whenever it comes: 7 windows,
        # in batches of 2, come round after 7 steps and not before.
        same = [step for step, loss in enumerate(in_order) if abs(loss - in_order[0]) < 1e-3]
        self.assertEqual(same, [0, 7])
        # In file order the first batch is the first two windows of the file.
        tokens = self.train.read_bytes()[1024:]
        ids = struct.unpack(f"<{len(tokens) // 2}H", tokens)
        shard(self.train, 0, tokens=ids[: 2 * CONTEXT])
        self.assertEqual(run("two windows", "--no-shuffle")[0], in_order[0])

    def test_config_file(self):
        config = self.folder / "config.toml"
        config.write_text('steps = 3\nbatch-size = 2\nshuffle = false\nseed = 9\nlog-every = 1\nthreads = 1\n'
                          'observe-every = 0\neval-every = 0\n')
        self.succeed("--config", config, "--train", self.train, "--out", self.folder / "a", "--seed", 4)
        self.succeed(*self.training(self.folder / "b", 3, "--no-shuffle", "--seed", 4, "--log-every", 1))
        course = json.loads((self.folder / "a" / "checkpoint" / "trainer.json").read_text())["course"]
        self.assertEqual((course["steps"], course["shuffle"], course["seed"]), (3, False, 4))
        self.assert_same_run(self.folder / "a", self.folder / "b")

    def test_divergence(self):
        run = self.folder / "run"
        wild = self.training(run, 30, "--learning-rate", 1e30, "--warmup-ratio", 0, "--log-every", 1)
        result = self.call(*wild)
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIn("diverged", result.stdout)
        last = metrics(run)[-1]
        self.assertEqual(last["kind"], "diverged")
        header, _ = read_weights(run / "checkpoint" / "model.safetensors")
        self.assertIn(last["tensor"], header)
        self.assertEqual(json.loads((run / "checkpoint" / "trainer.json").read_text())["step"], 0)


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


class Memory(TrainerTest):
    """The memory that a run needs, that its device has, and the batch that comes of both."""

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
        """A limit that lets passes of `batch` windows fit, with so many bytes besides, and none of `more`."""
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
        self.refuse("--plan-only", "--step-windows", 12, "--batch-size", 4, says=["--step-windows", "--batch-size"])
        self.refuse("--plan-only", "--step-windows", 12, "--accumulate", 4, says=["--step-windows", "--accumulate"])

    def test_a_run_goes_on_with_its_batch(self):
        """Whatever memory there is then."""
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
        self.refuse(*self.training(run, *step), "--resume", limit=self.limit_between(1, 2), says=["its own batch"])
        self.succeed(*self.training(run, *step), "--resume")
        self.assert_same_run(whole, run)

        state = run / "checkpoint" / "trainer.json"
        state.write_text(state.read_text().replace('"batch_size"', '"size"'))
        self.refuse(*self.training(run, *step), "--resume", says=["damaged", "batch_size"])
        state.unlink()
        self.refuse(*self.training(run, *step), "--resume", says=["no checkpoint to resume from"])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    PROGRAM, NORMED = (Path(os.path.abspath(sys.argv.pop(1))) for _ in range(2))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    unittest.main()
