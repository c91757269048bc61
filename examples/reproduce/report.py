#!/usr/bin/python3
"""Compares the runs in a root folder with each other and with the paper.

Reads the trainers' files in the folder and writes results.json, report.md, report.html and figures/*.png into
it, with a section for each experiment that has runs. Every finding is computed from these files; the paper's
numbers and published costs are constants.
"""

import argparse
import math
import shlex
import sys
from pathlib import Path

import numpy as np

import private_inference
from chapter import Chapter
from configurations import BASELINE, CONFIGURATIONS, RECIPES, SHAPES
from experiments import SECTIONS
from files import ReproduceError, name_of, write_json, write_text
from logs import BY_LAYER, read_root
from page import html_page
from provenance import SCALE_NOTES, corpus_section, recipe_section
from scales import SCALES
from text import bullets, names


def finite_or_none(value):
    """Numbers for JSON, with null for NaN; also for tables and lists."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite_or_none(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def results(settings, corpus, runs):
    """The content of results.json: every run, with its perplexity relative to the baseline's, everything else
    being equal."""

    def key(run):
        spec = run.spec
        return (spec.shape, spec.context, spec.seed, spec.recipe, spec.rate_factor)

    baseline = {key(run): run.perplexity for run in runs if run.config == BASELINE and run.spec.is_bare}

    def delta(run):
        return 100 * (run.perplexity / baseline.get(key(run), math.nan) - 1)

    entries = [
        run.spec.as_json()
        | {
            "norm": CONFIGURATIONS[run.config].norm,
            "activation": CONFIGURATIONS[run.config].activation_name,
            "options": run.recipe,
            "parameters": run.parameters,
            "steps": run.steps,
            "tokens": run.tokens,
            "eval_loss": run.eval_loss,
            "perplexity": run.perplexity,
            "delta_percent": delta(run),
            "tokens_per_second": run.tokens_per_second,
            "seconds": run.seconds,
            "device": run.device,
            "head_entropy": run.head_entropy,
            "nonfinite_rows": run.nonfinite_rows,
            "slopes": run.slopes[-1][1] if run.slopes else [],
            **{
                kind: {name: run.by_layer[name] for name in names if name in run.by_layer}
                for kind, names in BY_LAYER.items()
            },
            **({"downstream": run.downstream} if run.downstream else {}),
        }
        for run in runs
    ]
    return {
        "scale": settings["scale"],
        "corpus": corpus,
        "runs": [finite_or_none(entry) for entry in entries],
    }


def markdown(settings, corpus, runs, unfinished, pictures):
    """The content of report.md; draws the figures into `pictures`."""
    scale = settings["scale"]
    seeds = sorted({run.spec.seed for run in runs})
    first = runs[0]
    shape = first.spec.shape
    sizes = SHAPES[shape]
    amount = (
        f"{first.tokens / 1e6:.1f} million" if first.tokens >= 1e6 else f"{first.tokens / 1e3:.0f} thousand"
    )
    own = settings["corpus"] != "debian"
    text = f"of {Path(settings['corpus']).name}" if own else "of Python code"
    parts = [
        f"# LayerNorm or none, GELU or ReLU: {scale}, seed{'s' if len(seeds) > 1 else ''} "
        f"{names(map(str, seeds))}",
        f"Decoder-only transformers ({sizes.layers} layers, {sizes.heads} heads, width {sizes.width}, "
        f"windows of {first.spec.context} tokens unless said otherwise) trained on {amount} tokens {text} "
        "each, after *ReLU's Revival: On the Entropic Overload in Normalization-Free Large Language "
        "Models*. SM is softmax attention, LN LayerNorm, G GELU, R ReLU.",
    ]
    if scale == "smoke":
        parts.append(
            "> **This is a smoke run. It only shows that the path works: read no result into its "
            "numbers.**"
        )
    if unfinished:
        parts.append(f"Not finished and therefore left out: {'; '.join(unfinished)}.")
    told = {}  # the experiments that have a section
    for recipe in RECIPES:
        same = [run for run in runs if run.spec.recipe == recipe]
        chapter = Chapter(recipe, SCALES[scale], same, corpus["unigram_loss"]["128"], pictures)
        for experiment in SECTIONS:
            section = experiment.section(chapter)
            parts += section
            if section and hasattr(experiment, "grid"):
                told[experiment.name] = True
    used = {run.config for run in runs}
    parts += private_inference.section(shape, [config for config in CONFIGURATIONS if config in used])
    parts += ["## What this scale can and cannot show", bullets(SCALE_NOTES[scale])]
    parts += ["## Recipe", *recipe_section(runs), "## Corpus", *corpus_section(corpus)]
    experiments = ",".join(told)
    options = f" --corpus {shlex.quote(settings['corpus'])}" if own else ""
    prepared = corpus["prepared"]["128"].get("arguments", {})
    options += " --skip-invalid" if prepared.get("skip_invalid") else ""
    options += f" --device {settings['device']}" if settings["device"] != "cpu" else ""
    options += f" --ranks {settings['ranks']}" if settings["ranks"] > 1 else ""
    parts += [
        "## Running it again",
        "```sh\n"
        f"examples/reproduce.sh --experiment {experiments} --scale {scale} --seed {seeds[0]} --seeds "
        f"{len(seeds)}{options}\n"
        "examples/reproduce/report.py --run-dir DIR    # only tables and figures, from the logs in DIR\n```",
        "All numbers of this page are in [results.json](results.json).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_report(root):
    """Writes results.json, report.md, report.html and figures/*.png into a root folder, from its trainers'
    files."""
    settings, corpus, runs, unfinished = read_root(root)
    pictures = root / "figures"
    pictures.mkdir(exist_ok=True)
    text = markdown(settings, corpus, runs, unfinished, pictures)
    write_text(root / "report.md", text)
    write_text(root / "report.html", html_page(text, root))
    write_json(root / "results.json", results(settings, corpus, runs))


def main():
    parser = argparse.ArgumentParser(prog="report.py", description=__doc__.split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help="folder written by reproduce.sh (its --out); the report is written there, too",
    )
    what.add_argument(
        "--private-inference",
        choices=list(SHAPES),
        metavar="SHAPE",
        help=f"print the cost of the nonlinearities of a shape ({', '.join(SHAPES)}) in private inference",
    )
    arguments = parser.parse_args()
    if arguments.private_inference:
        shape = arguments.private_inference
        print("\n\n".join(private_inference.section(shape, list(CONFIGURATIONS))))
        return
    root = arguments.run_dir
    try:
        write_report(root)
    except (ReproduceError, OSError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"wrote {name_of(root / 'report.html')}, report.md, results.json and figures/")


if __name__ == "__main__":
    main()
