"""Shared by the tests of the trainer programs. Each is run as

    test_NAME.py TRAIN_DEMO_SM_R TRAIN_DEMO_SM_LN_G
"""

import hashlib
import json
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

if len(sys.argv) < 3:
    sys.exit(__doc__)
PROGRAM, NORMED = (Path(os.path.abspath(sys.argv.pop(1))) for _ in range(2))
# Tests share the cores, so waiting threads must not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# The demo shape, DecoderConfig demo in core/config.hpp.
LAYERS, HEADS, CONTEXT, VOCABULARY = 8, 4, 128, 4096

BATCH = 2
COMMON = ["--batch-size", BATCH, "--threads", 1, "--eval-every", 0, "--observe-every", 0]


def shard(path, windows, seed=0, tokens=None):
    """A token shard in llm.c's format: 256 little-endian int32, of which three are used, then uint16."""
    tokens = tokens or random.Random(seed).choices(range(VOCABULARY), k=windows * CONTEXT)
    header = struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253)
    path.write_bytes(header + struct.pack(f"<{len(tokens)}H", *tokens))
    return path


def read_weights(path):
    """Header and data of a safetensors file; fails if it is incomplete."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    assert max(ends) == len(content) - 8 - size, f"{path} is not whole"
    return header, content[8 + size :]


def content(folder):
    """The content of a folder: the hash of every file, and every name."""
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
    """The function that sets the limit in a program before it starts; None without a limit."""
    return limit and (lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))


class TrainerTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="lnfree-test-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.train = shard(self.folder / "train.bin", 7, seed=1)
        self.val = shard(self.folder / "val.bin", 3, seed=2)

    def call(self, *arguments, program=None, limit=None):
        """`limit` is the program's memory limit in bytes."""
        command = [str(x) for x in [program or PROGRAM, *arguments]]
        return subprocess.run(command, capture_output=True, text=True, timeout=1200, preexec_fn=limit_memory(limit))

    def succeed(self, *arguments, program=None, limit=None):
        result = self.call(*arguments, program=program, limit=limit)
        self.assertEqual(result.returncode, 0, f"{arguments}: {result.stderr}")
        return result

    def training(self, out, steps, *more):
        return ["--train", self.train, "--out", out, "--steps", steps, *COMMON, *more]

    def refuse(self, *arguments, says, program=None, limit=None):
        """The program must exit with 1 and one line that contains every text of `says`; no file may
        change."""
        before = content(self.folder)
        result = self.call(*arguments, program=program, limit=limit)
        self.assertEqual(result.returncode, 1, f"{arguments}: {result.stderr}")
        self.assertTrue(result.stderr.startswith((program or PROGRAM).name + ": "), result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertLess(len(result.stderr), 500)
        for word in says:
            self.assertIn(word, result.stderr)
        self.assertEqual(content(self.folder), before)

    def start(self, *arguments, limit=None, preexec=None, wait=True, environment=None):
        """A program that has trained at least a step, unless `wait` is false."""
        command = [str(x) for x in [PROGRAM, *arguments]]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        program = subprocess.Popen(command, **pipes, env=environment, preexec_fn=preexec or limit_memory(limit))
        self.addCleanup(program.stdout.close)
        self.addCleanup(program.stderr.close)
        self.addCleanup(program.wait)
        self.addCleanup(program.kill)
        if not wait:
            return program
        for line in program.stdout:
            if line.startswith("step "):
                return program
        self.fail(f"the program did not train: {program.stderr.read()}")

    def assert_same_run(self, a, b):
        for name in ("model.safetensors", "optimizer.safetensors", "config.json"):
            same = (a / "checkpoint" / name).read_bytes() == (b / "checkpoint" / name).read_bytes()
            self.assertTrue(same, f"{name} differs")
        self.assertEqual(metrics(a), metrics(b))
