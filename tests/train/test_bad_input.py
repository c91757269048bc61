"""Bad input to the trainers: one sentence, exit status 1, and nothing is touched."""

import json
import os
import random
import struct
import unittest
from pathlib import Path

from trainer_program import COMMON, CONTEXT, NORMED, VOCABULARY, TrainerTest, metrics, read_weights, shard


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
        os.mkfifo(bad)
        refuse(bad, "not a file")
        bad.unlink()
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
        os.mkfifo(bad)
        refuse(bad, "a .safetensors file was expected")
        bad.unlink()
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
            (["--out", out, "--wrong", 3], ["--wrong is not an option"]),
            (["--wrong", 3], ["--wrong is not an option"]),
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
        self.refuse("--out", out, "--config", config, says=["config.toml: stepps is not an option"])

    def test_out_in_the_way(self):
        (self.folder / "file").write_text("in the way")
        (self.folder / "loop").symlink_to("loop")
        (self.folder / "dangling").symlink_to("nowhere/run")
        long = self.folder / ("x" * 300)
        outs = (self.folder / "file", self.folder / "file" / "below", Path("/proc/none"), self.folder / "loop",
                self.folder / "loop" / "below", self.folder / "dangling", long)  # fmt: skip
        for out in outs:
            self.refuse(*self.training(out, 1), says=[str(out).removesuffix("/below")[:100]])
        for out in (self.folder / "loop", long):
            self.refuse(*self.training(out, 1, "--resume"), says=[str(out)[:100]])
            self.refuse(*self.training(self.folder / "run", 1, "--init-from", out), says=[str(out)[:100]])

    def test_what_is_no_file_in_a_run(self):
        """It is neither waited for nor replaced."""
        run = self.folder / "run"
        self.succeed(*self.training(run, 1))
        resume = self.training(run, 1, "--resume")
        for name in ("metrics.jsonl", "checkpoint/trainer.json", "checkpoint/config.json", "checkpoint/model.safetensors"):
            file, kept = run / name, self.folder / "kept"
            file.rename(kept)
            for make in (os.mkfifo, os.mkdir, lambda path: os.symlink(path.name, path), lambda path: path.write_text("")):
                make(file)
                if name != "metrics.jsonl" or not file.is_file():
                    self.refuse(*resume, says=[name])
                file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
            kept.rename(file)
        (self.folder / "place").symlink_to("place")
        (run / "checkpoint").rename(self.folder / "checkpoint")
        (run / "checkpoint").symlink_to("checkpoint")
        self.refuse(*resume, says=["checkpoint", "Too many levels"])
        self.refuse(*self.training(run, 1), says=["checkpoint", "Too many levels"])
        (run / "checkpoint").unlink()
        # A link with a slash at its end is followed like any other.
        (run / "checkpoint").symlink_to("../checkpoint/")
        self.succeed(*self.training(run, 2, "--resume", "--extend"))
        self.assertTrue((run / "checkpoint").is_symlink())
        self.assertEqual(json.loads((self.folder / "checkpoint" / "trainer.json").read_text())["step"], 2)

    def test_results_replace_no_input(self):
        run = self.folder / "run"
        self.succeed("--steps", 0, "--out", run)
        weights = run / "checkpoint" / "model.safetensors"
        for json_file, option in ((self.val, "--val"), (weights, "--init-from")):
            self.refuse("--evaluate-only", "--init-from", weights, "--val", self.val, "--json", json_file,
                        says=["--json would overwrite", option])  # fmt: skip
        self.refuse("--plan-only", "--json", self.folder / "none" / "plan.json", says=["plan.json cannot be written"])

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

    def describe(self, path, tokenizer, vocabulary=VOCABULARY):
        """Writes a description beside a shard, as prepare_corpus does."""
        description = {"vocab_size": vocabulary, "context": CONTEXT, "tokenizer_fingerprint": tokenizer}
        path.with_suffix(".json").write_text(json.dumps(description))

    def test_another_corpus_is_not_resumed(self):
        run, other, moved = self.folder / "run", self.folder / "other.bin", self.folder / "moved.bin"
        validated = ["--val", self.val]
        self.succeed(*self.training(run, 2, *validated))
        resume = ["--out", run, "--steps", 2, *COMMON, "--resume"]
        shard(other, 7, seed=3)
        self.refuse("--train", other, *validated, *resume, says=["other.bin", "train.bin", "holds other tokens"])
        shard(other, 3, seed=4)
        self.refuse("--train", self.train, "--val", other, *resume, says=["other.bin", "val.bin", "evaluated on"])
        # The same tokens are the same corpus, wherever they are, and a description added later changes
        # nothing.
        moved.write_bytes(self.train.read_bytes())
        self.describe(moved, "aaaa")
        self.succeed("--train", moved, *resume)
        # A run that is not evaluated for a while still remembers its validation data.
        self.refuse("--train", moved, "--val", other, *resume, says=["other.bin", "val.bin"])
        # Checkpoints of earlier versions had only the number of windows.
        state = run / "checkpoint" / "trainer.json"
        earlier = json.loads(state.read_text())
        del earlier["data"]
        state.write_text(json.dumps(earlier))
        shard(other, 7, seed=3)
        self.succeed("--train", other, *validated, *resume)
        earlier["data"] = {"train": {"tokens": 3}}
        state.write_text(json.dumps(earlier))
        self.refuse("--train", self.train, *resume, says=["trainer.json is damaged", "data.train"])

    def test_several_shards(self):
        # Shards of whole windows are the same data as one shard of all their tokens, with a header or without.
        tokens = random.Random(5).choices(range(VOCABULARY), k=7 * CONTEXT)
        parts = (tokens[: 3 * CONTEXT], tokens[3 * CONTEXT : 5 * CONTEXT], tokens[5 * CONTEXT :])
        whole = shard(self.folder / "whole.bin", 0, tokens=tokens)
        (self.folder / "bare").mkdir()
        for i, part in enumerate(parts):
            shard(self.folder / f"part_{i}.bin", 0, tokens=part)
            (self.folder / "bare" / f"part_{i}.bin").write_bytes(struct.pack(f"<{len(part)}H", *part))
        many, bare = self.folder / "part_*.bin", self.folder / "bare" / "part_*.bin"

        def weights(name, *options):
            run = self.folder / name
            self.succeed("--out", run, "--steps", 3, *COMMON, *options)
            return (run / "checkpoint" / "model.safetensors").read_bytes()

        expected = weights("one", "--train", whole)
        self.assertEqual(expected, weights("many", "--train", many))
        swapped = ["--train", self.folder / "part_2.bin", "--train", self.folder / "part_[01].bin"]
        self.assertEqual(expected, weights("swapped", *swapped))
        self.assertEqual(expected, weights("bare", "--train", bare, "--vocab-size", VOCABULARY))
        self.refuse("--train", bare, "--out", self.folder / "new", "--steps", 1, *COMMON, says=["part_0.bin", "--vocab-size"])
        (self.folder / "bare" / "meta.json").write_text(json.dumps({"vocab_size": VOCABULARY}))
        self.assertEqual(expected, weights("described", "--train", bare))

        resume = ["--out", self.folder / "many", "--steps", 3, *COMMON, "--resume"]
        self.succeed("--train", *sorted(self.folder.glob("part_?.bin")), *resume)
        self.refuse("--train", self.folder / "part_[01].bin", *resume, says=["7 training windows", "has 5"])
        shard(self.folder / "part_1.bin", 0, tokens=parts[1][::-1])
        self.refuse("--train", many, *resume, says=["part_0.bin and 2 more", "holds other tokens"])
        self.describe(self.folder / "part_0.bin", "aaaa")
        self.describe(self.folder / "part_2.bin", "bbbb")
        self.refuse("--train", many, *resume, says=["different tokenizers"])
        self.refuse("--train", self.folder / "no_*.bin", *resume, says=["no file matches", "no_*.bin"])

    def test_another_tokenizer(self):
        run = self.folder / "run"
        self.describe(self.train, "aaaa")
        self.describe(self.val, "bbbb")
        both = ["tokenizer aaaa", "tokenizer bbbb", "train.bin", "val.bin"]
        self.refuse(*self.training(run, 2, "--val", self.val), says=both)
        self.succeed(*self.training(run, 2))
        weights = run / "checkpoint" / "model.safetensors"
        evaluation = ["--init-from", weights, "--evaluate-only", "--val", self.val]
        self.refuse(*evaluation, says=both)
        begun = self.succeed("--init-from", weights, *self.training(self.folder / "begun", 1, "--train", self.val)[2:])
        self.assertRegex(begun.stdout, "note: .*bbbb.*another tokenizer than .*aaaa")
        self.describe(self.val, "aaaa")
        self.succeed(*evaluation)
        self.describe(self.train, "bbbb")
        self.refuse(*self.training(run, 2, "--resume"), says=["tokenizer aaaa", "tokenizer bbbb"])
        # Without fingerprints the vocabulary sizes are compared, or the tokenizer's models beside the shards.
        self.describe(self.train, "", VOCABULARY - 1)
        self.describe(self.val, "")
        self.refuse(*self.training(self.folder / "new", 2, "--val", self.val), says=["of 4095 tokens", "of 4096 tokens"])
        for name, model in (("one", b"a"), ("two", b"b"), ("three", b"a")):
            (self.folder / name).mkdir()
            (self.folder / name / "tokenizer.model").write_bytes(model)
            shard(self.folder / name / "x.bin", 3, seed=5)
            description = {"vocab_size": VOCABULARY, "context": CONTEXT, "tokenizer": "tokenizer.model"}
            (self.folder / name / "x.json").write_text(json.dumps(description))
        one, two, three = ([flag, self.folder / name / "x.bin"] for flag, name in
                           (("--train", "one"), ("--val", "two"), ("--val", "three")))  # fmt: skip
        rest = ["--out", self.folder / "new", "--steps", 1, *COMMON]
        self.refuse(*one, *two, *rest, says=["one/x.bin", "two/x.bin"])
        self.succeed(*one, *three, *rest)

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


if __name__ == "__main__":
    unittest.main()
