"""Root folders as written by the trainers, with made-up curves that end at given values."""

import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "reproduce"))

import runs
from configurations import CONFIGURATIONS

# fmt: off
# Runs that reproduce the paper's table: perplexity, and the mean entropy of each layer (nats).
PERPLEXITY = {"sm_ln_g": 26.96, "sm_ln_r": 27.45, "sm_g": 30.12, "sm_r": 28.64}
LAYER_ENTROPY = {
    "sm_ln_g": [3.35, 3.63, 1.90, 2.26, 2.12, 2.45, 2.57, 2.71],
    "sm_ln_r": [3.40, 3.48, 1.82, 2.51, 2.35, 2.37, 2.67, 2.89],
    "sm_g": [3.49, 3.64, 3.63, 3.69, 3.50, 2.89, 1.85, 1.60],
    "sm_r": [3.53, 3.73, 3.13, 2.24, 2.14, 2.39, 2.63, 2.15],
}
START = 3.878
UNIGRAM_LOSS = 6.6

# corpus.json as prepare_corpus writes it.
PREPARED = {
    "documents": {"seen": 1543, "kept": 1500, "duplicates": 31, "too_small": 10, "too_large": 2,
                  "invalid": 0},
    "context": 128, "vocab_size": 4096, "bytes_per_token": 3.21,
    "train": {"documents": 1455, "bytes": 27765432, "tokens": 8560000, "windows": 66875},
    "held_out": {"documents": 45, "bytes": 826000, "tokens": 256000, "windows": 2000},
}
# fmt: on


def heads_of(layers):
    """Four heads around each layer's mean, none above uniform attention."""
    spread = [-0.09, -0.03, 0.04, 0.08]
    return [
        [min(mean + offset * (1 + index), START) for offset in spread] for index, mean in enumerate(layers)
    ]


def spec_of(config, seed=3, **changes):
    """The Spec of a demo run."""
    changes = {"shape": "demo", "context": 128, "seed": seed} | changes
    if CONFIGURATIONS[config].learnable:
        changes.setdefault("decay_slopes", True)
    return runs.Spec(config=config, **changes)


def write_run(root, spec, perplexity, layers, slopes=None, observed=None, first_half=None, gate=None, **changes):
    """One evaluated run; `slopes(part)` gives the slopes at a part of the training; `observed` is logged at its
    end, {kind: what its line holds}; `changes` overwrite keys of evaluation.json. `first_half` is its perplexity on the
    first half of the held-out files. `gate(part)` is that of its norms. Returns its folder."""
    place = root / "runs" / spec.name
    place.mkdir(parents=True)
    recipe = runs.recipe_of(spec, "demo", 0)
    steps = recipe["steps"]
    loss = math.log(perplexity) if perplexity else None
    heads = heads_of(layers)
    lines = []
    for step in range(0, steps, max(1, steps // 64)):
        part = step / steps
        if slopes is not None:
            lines.append({"kind": "slopes", "step": step, "slopes": slopes(part)})
        if loss is not None:
            lines.append(
                {
                    "kind": "train",
                    "step": step,
                    "loss": loss + 5 * math.exp(-9 * part),
                    "learning_rate": 1e-3,
                    "gradient_norm": 0.5,
                    "tokens_per_second": 11000 + step % 7,
                }
                | ({} if gate is None else {"norm_gate": gate(part)})
            )
            lines.append(
                {
                    "kind": "entropy",
                    "step": step,
                    "nonfinite_rows": 0,
                    "head_entropy": [
                        [head + (START - head) * math.exp(-7 * part) for head in layer] for layer in heads
                    ],
                }
            )
    for kind, values in (observed or {}).items():
        lines.append({"kind": kind, "step": steps - 1} | values)
    for eighth in range(1, 8):
        part = eighth / 8
        value = None if loss is None else loss + 1.9 * (1 - part) * math.exp(-2.2 * part)
        lines.append(
            {
                "kind": "eval",
                "step": int(part * steps),
                "eval_loss": value,
                "perplexity": value and math.exp(value),
            }
        )
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (place / "run.json").write_text(
        json.dumps({"spec": spec.as_json(), "recipe": recipe, "seconds": 700.5, "diverged": loss is None})
    )
    evaluation = {
        "eval_loss": loss,
        "perplexity": perplexity,
        "targets": 200000,
        "head_entropy": heads,
        "nonfinite_rows": 0,
        "parameters": 663000,
    } | changes
    (place / "evaluation.json").write_text(json.dumps(evaluation))
    if first_half is not None:
        half = {"eval_loss": math.log(first_half), "perplexity": first_half, "targets": evaluation["targets"] // 2}
        (place / "selection.json").write_text(json.dumps(half))
    return place


def downstream(accuracy, error=0.2, ece=0.02, confidence=None):
    """A run's downstream.json in which every accuracy follows from one: identifiers are 0.1 below, keywords 0.2 above
    it, copied names 0.05 above new ones. `error` is that of the attribution, `confidence` the mean one."""

    def tally(value):
        return {"targets": 1000, "accuracy": value, "loss": 5 - value}

    confidence = accuracy if confidence is None else confidence
    names = ("identifier", "keyword", "number", "string", "comment", "operator", "whitespace")
    offsets = {"identifier": -0.1, "keyword": 0.2}
    empty = {"targets": 0, "confidence": None, "accuracy": None}
    return {
        "context": 128,
        "texts": 45,
        "windows": 2000,
        "all": tally(accuracy),
        "classes": {name: tally(accuracy + offsets.get(name, 0)) for name in names},
        "names": {"nearest": 20, "farthest": 100, "copied": tally(accuracy + 0.05), "first": tally(accuracy)},
        "brackets": {"all": {"targets": 50, "accuracy": accuracy, "probability_share": 0.9}},
        "calibration": {
            "ece": ece,
            "confidence": confidence,
            "bins": [empty] * 14 + [{"targets": 1000, "confidence": confidence, "accuracy": accuracy}],
        },
        "output_entropy": 3.0,
        "sinks": {"first_token_attention": [[0.1] * 4] * 8, "sink_rate": 0.25},
        "attribution": error if error is None else {"error": error, "attention_error": error / 2, "sum_error": 1e-6, "parts": []},
        "induction": {"windows": 64, "first": tally(0.0), "second": tally(1.5)},
    }


def write_root(root, scale="demo"):
    """A root folder without runs."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "settings.json").write_text(json.dumps({"scale": scale, "corpus": "debian"}))
    packages = [{"package": "python3-pandas", "version": "1.5.3", "files": 321, "bytes": 7654321}]
    (root / "corpus.json").write_text(
        json.dumps(
            {
                "input": "Python sources of Debian packages",
                "sources": {"packages": packages},
                "prepared": {"128": PREPARED},
                "unigram_loss": {"128": UNIGRAM_LOSS},
            }
        )
    )


def write_folder(
    root, configs=tuple(PERPLEXITY), scale="demo", seeds=(3,), perplexity=None, entropy=None, **changes
):
    """A root folder with a run of each of `configs` and `seeds`; the two dictionaries overwrite single
    configurations' values, `changes` fields of every Spec. A perplexity may be a function of the seed."""
    write_root(root, scale)
    for seed in seeds:
        for config in configs:
            value = (PERPLEXITY | (perplexity or {}))[config]
            write_run(
                root,
                spec_of(config, seed, **changes),
                value(seed) if callable(value) else value,
                (LAYER_ENTROPY | (entropy or {}))[config],
            )
