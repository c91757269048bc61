#!/usr/bin/python3
"""Stands in for a trainer (or, under the name prepare_corpus, for that program) to test the job around them.

It keeps the programs' promises on files and signals and trains nothing. Environment: FAKE_HOLD=CONFIG:STEP waits
there for a signal; FAKE_DIVERGE=CONFIG:STEP diverges there; FAKE_FAIL=CONFIG:STEP fails there, not before the file
$FAKE_FAIL_AFTER exists. Every start is noted in $FAKE_STARTS.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import synthetic

NAME = Path(sys.argv[0]).name
CONFIG = NAME.removeprefix("train_demo_")
HEADS = [[3.0 + 0.1 * layer - 0.2 * head for head in range(4)] for layer in range(8)]


def note():
    with open(os.environ["FAKE_STARTS"], "a", encoding="utf-8") as file:
        file.write(" ".join([NAME, *sys.argv[1:]]) + "\n")


def prepare_corpus():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--input", "--out"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--vocab-size", "--context", "--seed", "--tokenizer-sample-bytes", "--max-train-tokens"):
        parser.add_argument(name, type=int)
    parser.add_argument("--held-out", type=float)
    parser.add_argument("--overwrite", action="store_true")
    out = parser.parse_args().out
    out.mkdir(exist_ok=True)
    for name in ("train.bin", "val.bin"):
        (out / name).write_bytes(b"tokens")
    (out / "corpus.json").write_text(json.dumps(synthetic.PREPARED))


def save(out, step, steps):
    (out / "checkpoint").mkdir(exist_ok=True)
    (out / "checkpoint" / "model.safetensors").write_bytes(b"")
    (out / "checkpoint" / "trainer.json").write_text(json.dumps({"step": step, "steps": steps}))


def train():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--train", "--val", "--out", "--init-from", "--json"):
        parser.add_argument(name, type=Path)
    for name in (
        "--steps",
        "--batch-size",
        "--accumulate",
        "--seed",
        "--eval-every",
        "--log-every",
        "--observe-every",
        "--checkpoint-every",
        "--threads",
    ):
        parser.add_argument(name, type=int)
    for name in ("--learning-rate", "--warmup-ratio", "--weight-decay", "--dropout", "--init-std"):
        parser.add_argument(name, type=float)
    for name in ("--shuffle", "--no-shuffle", "--resume", "--evaluate-only"):
        parser.add_argument(name, action="store_true")
    options = parser.parse_args()
    if not options.val.exists():
        sys.exit(f"{NAME}: {options.val} is missing")
    if options.evaluate_only:
        if not options.init_from.exists():
            sys.exit(f"{NAME}: {options.init_from} is missing")
        loss = {"sm_ln_g": 3.0, "sm_ln_r": 3.1, "sm_g": 3.4, "sm_r": 3.2}[CONFIG]
        options.json.write_text(
            json.dumps(
                {
                    "eval_loss": loss,
                    "perplexity": 2.718281828**loss,
                    "targets": 100,
                    "head_entropy": HEADS,
                    "nonfinite_rows": 0,
                    "parameters": 1000,
                }
            )
        )
        return
    checkpoint = options.out / "checkpoint" / "trainer.json"
    if checkpoint.exists() != options.resume:
        sys.exit(f"{NAME}: --resume does not fit {checkpoint}")
    first = json.loads(checkpoint.read_text())["step"] if options.resume else 0
    stopped = []
    if first == 0:
        save(options.out, 0, options.steps)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    with open(options.out / "metrics.jsonl", "a", encoding="utf-8") as metrics:
        for step in range(first, options.steps):
            lines = [
                {
                    "kind": "train",
                    "step": step,
                    "loss": 8 - 0.05 * step,
                    "learning_rate": 0.001,
                    "gradient_norm": 1,
                    "tokens_per_second": 10000,
                }
            ]
            if step % options.observe_every == 0:
                lines.append({"kind": "entropy", "step": step, "head_entropy": HEADS, "nonfinite_rows": 0})
            if step and step % options.eval_every == 0:
                lines.append({"kind": "eval", "step": step, "eval_loss": 8 - 0.05 * step, "perplexity": 9.0})
            metrics.writelines(json.dumps(line) + "\n" for line in lines)
            metrics.flush()
            if os.environ.get("FAKE_FAIL") == f"{CONFIG}:{step}":
                while not Path(os.environ.get("FAKE_FAIL_AFTER", "/")).exists():
                    time.sleep(0.01)
                sys.exit(f"{NAME}: the made-up disk is full")
            if os.environ.get("FAKE_DIVERGE") == f"{CONFIG}:{step}":
                sys.exit(3)
            while os.environ.get("FAKE_HOLD") == f"{CONFIG}:{step}" and not stopped:
                time.sleep(0.01)
            if stopped:
                save(options.out, step + 1, options.steps)
                sys.exit(128 + stopped[0])
    save(options.out, options.steps, options.steps)


names = [word for word in sys.argv[1:] if word.startswith("--")]
if len(names) != len(set(names)):
    sys.exit(f"{NAME}: an option is given twice")
note()
prepare_corpus() if NAME == "prepare_corpus" else train()
