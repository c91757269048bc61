"""Runs examples/train_your_own.cpp on a small corpus: it must learn, save a run, and resume it.

    run_training.py TRAIN_YOUR_OWN
"""

import json
import random
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

CONTEXT, TOKENS = 64, 50  # of 4096 ids the corpus has only these, each followed by one of two


def shard(path, windows, draw):
    """A token shard in llm.c's format."""
    tokens = [0]
    while len(tokens) < windows * CONTEXT:
        tokens.append((7 * tokens[-1] + draw.choice((1, 2))) % TOKENS)
    path.write_bytes(struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253) + struct.pack(f"<{len(tokens)}H", *tokens))
    return path


def run(*arguments, status=0):
    """The program's output."""
    result = subprocess.run([sys.argv[1], *map(str, arguments)], capture_output=True, text=True)
    print(result.stdout + result.stderr, end="")
    assert result.returncode == status, f"exit status {result.returncode}"
    return result.stdout + result.stderr


with tempfile.TemporaryDirectory(prefix="lnfree-test-") as folder:
    folder, draw = Path(folder), random.Random(1)
    arguments = [shard(folder / "train.bin", 16 * 150 + 5, draw), shard(folder / "val.bin", 9, draw), folder / "run"]
    output = run(*arguments)
    perplexity = float(re.search(r"^perplexity (\S+)$", output, re.MULTILINE)[1])
    assert 1.9 < perplexity < 5, f"two tokens may follow each: the perplexity should come near 2, it is {perplexity}"
    assert output.count("head entropies") == 4, "one line of entropies for each layer was expected"
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"train", "eval"} <= {line["kind"] for line in lines}, "metrics.jsonl lacks lines"
    assert json.loads((folder / "run" / "checkpoint" / "config.json").read_text())["activation_function"] == "quick_gelu"
    assert output.splitlines()[-5:] == run(*arguments).splitlines()[-5:], "the finished run shows something else again"
    assert "token shards" in run(status=1)
    assert "none.bin" in run(folder / "none.bin", *arguments[1:], status=1)
