#!/usr/bin/python3
"""Stands in for a trainer (or, under the names prepare_corpus and downstream, for those programs) to test the job around them.

It handles files and signals as the programs do, but trains nothing. Environment: FAKE_HOLD=CONFIG:STEP waits
there for a signal; FAKE_DIVERGE=CONFIG:STEP diverges there; FAKE_FAIL=CONFIG:STEP fails there, once the file
$FAKE_FAIL_AFTER exists. CONFIG is a trainer's name without train_demo_. FAKE_BATCH is the largest number of
windows in a pass that fits in memory; FAKE_NO_DEVICE means that there is no device. FAKE_REFUSAL is a
sentence with which prepare_corpus refuses its input, FAKE_TEXT the file that it holds out, FAKE_SHARDS=SPLIT:N
the number of shards that it lists for the split train or held_out. Every start is recorded in $FAKE_STARTS.
"""

import argparse
import array
import json
import math
import os
import re
import signal
import sys
import time
from pathlib import Path


def made_up():
    """The module synthetic. It takes as long to load as Python to start, and most starts do not need it."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import synthetic

    return synthetic


NAME = Path(sys.argv[0]).name
CONFIG = NAME.removeprefix("train_demo_").removesuffix("_mpi")
SHAPE = next(
    (shape for shape in ("pythia_demo", "demo", "gpt2") if NAME.startswith(f"train_{shape}_")), "demo"
)
DEVICE = "made-up GPU" if NAME.endswith("_cuda") else "made-up CPU"
MOST_WINDOWS = int(os.environ.get("FAKE_BATCH", "128"))
LAYERS = 8
HEADS = [[3.0 + 0.1 * layer - 0.2 * head for head in range(4)] for layer in range(LAYERS)]
STREAM = {name: [1.0 + layer for layer in range(LAYERS)] for name in ("rms", "kurtosis", "zeros")}
SIGNAL = {"cosine": [layer / 8 for layer in range(LAYERS)], "effective_rank": [60.0 - layer for layer in range(LAYERS)]}
LOSS = {"sm_ln_g": 3.0, "sm_ln_r": 3.1, "sm_g": 3.4, "sm_r": 3.2}


def note():
    with open(os.environ["FAKE_STARTS"], "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(" ".join([NAME, *sys.argv[1:]]) + "\n")


def downstream():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--checkpoint", "--tokenizer", "--annotated", "--json"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--windows", type=int)
    options = parser.parse_args()
    for path in (options.checkpoint / "trainer.json", options.tokenizer, options.annotated):
        if not path.exists():
            sys.exit(f"{NAME}: {path} is missing")
    options.json.write_text(json.dumps(made_up().downstream(0.3)))


def prepare_corpus():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--input", "--out"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--vocab-size", "--context", "--seed", "--tokenizer-sample-bytes", "--max-train-tokens"):
        parser.add_argument(name, type=int)
    parser.add_argument("--held-out", type=float)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--held-out-text", type=Path)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--skip-invalid", action="store_true")
    options = parser.parse_args()
    out = options.out
    refusal = os.environ.get("FAKE_REFUSAL", "")
    if refusal and not ("--skip-invalid" in refusal and options.skip_invalid):
        sys.exit(f"{NAME}: {refusal}")
    if options.tokenizer and not options.tokenizer.exists():
        sys.exit(f"{NAME}: {options.tokenizer} is missing")
    out.mkdir(exist_ok=True)
    (out / "tokenizer.model").write_bytes(b"pieces")
    if options.held_out_text:
        options.held_out_text.write_text(json.dumps({"content": os.environ.get("FAKE_TEXT", "x = 1\n")}) + "\n")
    # 16 tokens with equal frequencies, so the unigram loss is ln 16.
    tokens = array.array("H", list(range(16)) * (options.context // 8))
    for name in ("train.bin", "val.bin"):
        header = array.array("i", [20240520, 1, len(tokens)] + [0] * 253)
        (out / name).write_bytes(header.tobytes() + tokens.tobytes())
    windows = int(os.environ.get("FAKE_WINDOWS", "66875")) * 128 // options.context
    prepared = made_up().PREPARED
    report = prepared | {"context": options.context, "train": prepared["train"] | {"windows": windows}}
    if shards := os.environ.get("FAKE_SHARDS"):
        split, number = shards.split(":")
        names = [f"{'val' if split == 'held_out' else split}_{i + 1:06}.bin" for i in range(int(number))]
        report[split] = report[split] | {"shards": names}
    report["arguments"] = {"skip_invalid": options.skip_invalid}
    if refusal:
        report["documents"] = report["documents"] | {"invalid": 1}
    (out / "corpus.json").write_text(json.dumps(report))


def batch_of(options):
    """(windows in a pass, passes in a step): as requested, as memory allows, or as the run started."""
    checkpoint = options.out / "checkpoint" / "trainer.json" if options.out else None
    if options.resume:
        return tuple(json.loads(checkpoint.read_text())["course"].values())
    if options.step_windows:
        batch = next(n for n in range(MOST_WINDOWS, 0, -1) if options.step_windows % n == 0)
        return batch, options.step_windows // batch
    return options.batch_size, options.accumulate


def save(options, batch, step):
    folder = options.out / "checkpoint"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"")
    course = dict(zip(("batch_size", "accumulate"), batch))
    (folder / "trainer.json").write_text(json.dumps({"step": step, "steps": options.steps, "course": course}))


def plan(options):
    batch_size, accumulate = batch_of(options)
    bytes_needed = {"parameters": 10**9, "activations": 10**8 * batch_size}
    options.json.write_text(
        json.dumps(
            {
                "device": DEVICE,
                "free_bytes": 20 * 10**9,
                "batch_size": batch_size,
                "accumulate": accumulate,
                "bytes": bytes_needed | {"total": sum(bytes_needed.values())},
            }
        )
    )


def train():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--train", "--val", "--out", "--init-from", "--json", "--teacher"):
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
        "--context",
        "--profile",
        "--step-windows",
    ):
        parser.add_argument(name, type=int)
    for name in (
        "--learning-rate",
        "--warmup-ratio",
        "--weight-decay",
        "--dropout",
        "--init-std",
        "--teacher-weight",
        "--teacher-temperature",
        "--hidden-penalty",
    ):
        parser.add_argument(name, type=float)
    for name in (
        "--shuffle",
        "--resume",
        "--evaluate-only",
        "--plan-only",
        "--decay-slopes",
        "--no-decay-slopes",
        "--observe-signal",
    ):
        parser.add_argument(name, action="store_true")
    options = parser.parse_args()
    if options.step_windows and (options.batch_size or options.accumulate):
        sys.exit(f"{NAME}: --step-windows excludes --batch-size and --accumulate")
    if os.environ.get("FAKE_NO_DEVICE"):
        print(f"{NAME}: no made-up device can be used", file=sys.stderr)
        sys.exit(4)
    if options.plan_only:
        plan(options)
        return
    learns = "distilled" in NAME and not options.evaluate_only
    if learns != (options.teacher is not None):
        sys.exit(f"{NAME}: --teacher is missing or not for this program")
    if options.teacher and not (options.teacher / "model.safetensors").exists():
        sys.exit(f"{NAME}: {options.teacher} is not a checkpoint")
    if options.profile:
        options.json.write_text(json.dumps({"steps": options.profile, "milliseconds_per_step": 1000.0}))
        return
    if not options.val.exists():
        sys.exit(f"{NAME}: {options.val} is missing")
    if options.evaluate_only:
        if not options.init_from.exists():
            sys.exit(f"{NAME}: {options.init_from} is missing")
        loss = next(
            (loss for config, loss in LOSS.items() if NAME.split("demo_")[-1].startswith(config)), 3.3
        )
        # FAKE_BEST is the multiple of the learning rate with which runs end best; halves differ by 0.1 nats.
        best = float(os.environ.get("FAKE_BEST", "1"))
        factor = float((re.findall(r"-lr([0-9.]+)x-", str(options.init_from)) or ["1"])[0])
        loss += 0.02 * abs(math.log2(factor / best))
        is_half = options.val.name == "selection.bin"
        options.json.write_text(
            json.dumps(
                {
                    "eval_loss": loss + 0.05 * is_half,
                    "perplexity": 2.718281828**loss,
                    "targets": 50 if is_half else 100,
                    "head_entropy": HEADS,
                    "nonfinite_rows": 0,
                    "parameters": 1000,
                    **STREAM,
                    **(SIGNAL if options.observe_signal else {}),
                }
            )
        )
        return
    checkpoint = options.out / "checkpoint" / "trainer.json"
    if checkpoint.exists() != options.resume:
        sys.exit(f"{NAME}: --resume does not fit {checkpoint}")
    if options.init_from and (options.resume or not (options.init_from / "model.safetensors").exists()):
        sys.exit(f"{NAME}: --init-from {options.init_from} is not a checkpoint, or --resume was given, too")
    first = json.loads(checkpoint.read_text())["step"] if options.resume else 0
    batch = batch_of(options)
    stopped = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    if first == 0:
        save(options, batch, 0)
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
                lines.append({"kind": "stream", "step": step} | STREAM)
                if options.observe_signal:
                    lines.append({"kind": "signal", "step": step} | SIGNAL)
                if "leaky" in NAME:
                    slopes = [0.01 - 0.001 * step] * (1 if "global" in NAME else LAYERS)
                    lines.append({"kind": "slopes", "step": step, "slopes": slopes})
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
                save(options, batch, step + 1)
                sys.exit(128 + stopped[0])
    save(options, batch, options.steps)


names = [word for word in sys.argv[1:] if word.startswith("--")]
if len(names) != len(set(names)):
    sys.exit(f"{NAME}: an option is given twice")
note()
{"prepare_corpus": prepare_corpus, "downstream": downstream}.get(NAME, train)()
