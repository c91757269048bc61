"""The trainers' files and output, by option."""

import json
import math
import os
import re
import resource
import struct
import subprocess
import sys
import unittest
from pathlib import Path

from trainer_program import (
    BATCH,
    CONTEXT,
    HEADS,
    LAYERS,
    NORMED,
    PROGRAM,
    VOCABULARY,
    TrainerTest,
    content,
    losses,
    metrics,
    read_weights,
    shard,
)


class Runs(TrainerTest):
    def test_help(self):
        text = self.succeed("--help").stdout
        for name in (
            "train val steps batch-size accumulate step-windows plan-only learning-rate warmup-ratio weight-decay dropout init-std seed "
            "observe-signal observe-weights context decay-slopes no-decay-slopes shuffle no-shuffle eval-every log-every observe-every out resume init-from evaluate-only json config"
        ).split():
            self.assertIn("--" + name, text)
        self.assertNotRegex(text, r"TEXT|INT|FLOAT|UINT|\{|Excludes|Needs")

    def test_the_defaults_are_the_recipe(self):
        """That of configurations.def, as the experiments read it."""
        sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "reproduce"))
        from configurations import RECIPES, SHAPES

        text = " ".join(self.succeed("--help").stdout.split())
        recipe = {name: value for name, value in RECIPES["paper"].items() if name != "final_norm"}
        for name, value in (SHAPES["demo"].training | recipe).items():
            flag = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                expected = " (default), or not" if value else ", or not (default)"
            else:
                expected = f"={value:g} "
            entry = re.search(rf"{flag}[ ,].*?(?= --[a-z]|$)", text)
            self.assertIn(expected, entry[0])

    def test_threads_do_not_spin_for_long(self):
        """Unless the user wants that: the environment of the running program decides."""
        names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
        unset = {name: value for name, value in os.environ.items() if name not in names}
        brief = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
        for own, expected in (
            ({}, brief),
            ({"OMP_WAIT_POLICY": "passive"}, {"OMP_WAIT_POLICY": "passive"}),
            ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
            ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
            ({"KMP_BLOCKTIME": "3"}, {"KMP_BLOCKTIME": "3"}),
        ):
            with self.subTest(own):
                run = self.folder / str(own)
                program = self.start(*self.training(run, 100000, "--log-every", 1), environment={**unset, **own})
                process = Path(f"/proc/{program.pid}")
                entries = (process / "environ").read_bytes().decode().split("\0")
                found = dict(entry.split("=", 1) for entry in entries if "=" in entry)
                self.assertEqual({name: found[name] for name in names if name in found}, expected)
                # The restarted program keeps its name.
                self.assertEqual((process / "comm").read_text().strip(), PROGRAM.name[:15])
                self.assertEqual((process / "cmdline").read_bytes().split(b"\0")[0].decode(), str(PROGRAM))
                program.kill()
                program.wait()

    def test_small_stacks(self):
        """Of the program and of its threads: no part of a step needs a large stack."""
        small = 128 << 10
        limit = lambda: resource.setrlimit(resource.RLIMIT_STACK, (small, small))  # noqa: E731, ulimit -s
        for name, preexec, environment in (
            ("program", limit, dict(os.environ)),
            ("threads", None, {**os.environ, "OMP_STACKSIZE": "64k"}),
        ):
            command = [PROGRAM, "--train", self.train, "--val", self.val, "--out", self.folder / name, "--steps", 2,
                       "--batch-size", 16, "--threads", 2, "--observe-every", 1, "--eval-every", 1]  # fmt: skip
            result = subprocess.run([str(x) for x in command], capture_output=True, text=True, env=environment,
                                    preexec_fn=preexec)  # fmt: skip
            self.assertEqual(result.returncode, 0, f"{name}: {result.stderr}")

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

        # The same seed gives the same initial weights in every configuration.
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

    def test_what_is_observed_on_request(self):
        run, result = self.folder / "run", self.folder / "evaluation.json"
        asked = ["--observe-signal", "--observe-weights"]
        self.succeed("--train", self.train, "--val", self.val, "--out", run, "--steps", 4, "--batch-size", BATCH,
                     "--threads", 1, "--observe-every", 3, "--eval-every", 2, *asked)  # fmt: skip
        self.succeed("--init-from", run / "checkpoint" / "model.safetensors", "--evaluate-only", "--val", self.val,
                     "--batch-size", BATCH, "--json", result, *asked)  # fmt: skip
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        of_kind = {kind: [line for line in lines if line["kind"] == kind] for kind in ("signal", "weights", "eval")}
        self.assertEqual({kind: [line["step"] for line in found] for kind, found in of_kind.items()},
                         {"signal": [0, 3], "weights": [0, 3], "eval": [2, 4]})  # fmt: skip
        for line in [*of_kind["signal"], *of_kind["eval"], json.loads(result.read_text())]:
            self.assertEqual(len(line["cosine"]), LAYERS)
            self.assertTrue(all(-1 <= cosine <= 1 for cosine in line["cosine"]))
            self.assertTrue(all(1 <= rank <= 64 for rank in line["effective_rank"]))
        for line in [*of_kind["weights"], *of_kind["eval"], json.loads(result.read_text())]:
            self.assertEqual([len(layer) for layer in line["attn.c_attn"]], [3] * LAYERS)
            for name in ("attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
                self.assertEqual(len(line[name]), LAYERS)
                self.assertTrue(all(0.1 < value < 10 for value in line[name]))
        # Both only measure, and do not change the training.
        plain = self.folder / "plain"
        self.succeed("--train", self.train, "--val", self.val, "--out", plain, "--steps", 4, "--batch-size", BATCH,
                     "--threads", 1, "--observe-every", 3, "--eval-every", 2)  # fmt: skip
        self.assertEqual(losses(plain), losses(run))
        self.assertEqual({line["kind"] for line in metrics(plain)}, {"train", "eval", "entropy", "stream"})

    def test_schedules(self):
        """After the warm-up; a run can only be resumed with its own schedule."""
        options = ["--learning-rate", 1e-3, "--warmup-ratio", 0.1, "--log-every", 1]
        decay = {
            None: lambda progress: 1 - progress,
            "linear": lambda progress: 1 - progress,
            "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
            "stable_decay": lambda progress: min(1, (1 - progress) / 0.2),
        }
        for name, falls in decay.items():
            run = self.folder / str(name)
            self.succeed(*self.training(run, 10, *options, *(["--schedule", name] if name else [])))
            found = [line["learning_rate"] for line in metrics(run) if line["kind"] == "train"]
            expected = [0, *(1e-7 + (1e-3 - 1e-7) * falls(step / 9) for step in range(9))]
            for rate, other in zip(found, expected, strict=True):
                self.assertAlmostEqual(rate, other, places=12)
        self.refuse(*self.training(self.folder / "cosine", 10, *options, "--resume"), says=("cosine", "linear"))
        self.refuse(*self.training(self.folder / "new", 10, "--schedule", "wsd"), says=("--schedule", "stable_decay", "wsd"))

    def test_paths_may_be_any_bytes(self):
        folder = Path(os.fsdecode(os.fsencode(self.folder) + b"/caf\xe9"))
        folder.mkdir()
        self.train = self.train.rename(folder / "train.bin")
        run = folder / "run"
        environment = {**os.environ, "LC_ALL": "C"}
        for more in ([], ["--resume"]):
            command = [PROGRAM, *self.training(run, 2, *more)]
            result = subprocess.run([os.fsencode(str(x)) for x in command], capture_output=True, env=environment)
            self.assertEqual(result.returncode, 0, result.stderr)
        state = json.loads((run / "checkpoint" / "trainer.json").read_text())
        self.assertIn("caf\\xe9/train.bin", state["data"]["train"]["path"])

    def test_a_corpus_of_fewer_tokens_is_told(self):
        description = self.train.with_suffix(".json")
        for vocabulary, told in ((1000, True), (VOCABULARY, False)):
            description.write_text(json.dumps({"vocab_size": vocabulary, "context": CONTEXT}))
            run = self.folder / str(vocabulary)
            text = self.succeed(*self.training(run, 1)).stdout
            self.assertEqual(f"{self.train} was prepared with a vocabulary of {vocabulary}, but the model has" in text, told)

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

        # The same tensors with another activation are another model.
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
        # With almost no learning (the rate ends at 1e-7) each batch always has the same loss: 7 windows in
        # batches of 2 repeat after 7 steps and not before.
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


if __name__ == "__main__":
    unittest.main()
