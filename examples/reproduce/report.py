#!/usr/bin/python3
"""Compares the runs in a root folder with each other and with the paper.

Reads what the trainers left in the folder and writes results.json, report.md, report.html and figures/*.png into
it, a section for each experiment whose runs are there. Every finding is computed from these files; the paper's
numbers and published costs stand beside them as constants.
"""

import argparse
import json
import math
import shlex
import sys
from pathlib import Path

import numpy as np

import entropy
import figures
import outliers
import paper
import perplexity
import private_inference
import slopes
from comparison import Comparison
from experiments import CONFIGURATIONS, PAPER_CONFIGS, SHAPES
from files import JobError, write_text
from logs import ReportError, read_root
from page import html_page
from stability import Stability
from text import bullets, image, names, table

SCALE_NOTES = {
    "smoke": [
        "**Nothing but that the whole path works**, from the corpus to the figures. These models have seen "
        "less than a hundredth of the demo's training, too little for attention to leave its near-uniform "
        "start and for the order of the perplexities to mean anything."
    ],
    "demo": [
        "What follows about other runs comes from trials of this recipe in PyTorch, one to three seeds each.",
        "Perplexities compare these configurations with each other, never with the paper's: model, "
        "tokenizer, corpus and held-out files are others. The changes in % are what can be held against "
        "the paper's.",
        "Eight layers of width 64 and eight million tokens are about the least that shows the paper's "
        "whole table. In shorter runs SM + R is ahead of both LayerNorm models: their lead needs the "
        "length.",
        "GELU against ReLU *with* LayerNorm is within the noise between seeds: in short runs the pair "
        "changes places from seed to seed, differing by up to 2 %. GELU against ReLU *without* LayerNorm "
        "is not: ReLU won by 3 to 12 % in every setting trained far enough.",
        "Layer 0 separates no configurations, here or in longer runs. All heads without LayerNorm start "
        "near uniform attention and leave it during training, with ReLU first; so entropies say something "
        "only after enough training.",
        "One run per configuration and seed: for a claim, run several seeds (--seeds).",
    ],
    "gpt2": [
        "Model, batch, schedule and optimizer are the paper's; the corpus is CodeParrot only if you gave it, and "
        "the tokenizer is trained on your corpus. With CodeParrot the perplexities can be held against the paper's "
        "themselves, otherwise only the changes in %."
    ],
}


def finite_or_none(value):
    """Numbers for JSON, which has no NaN: null instead; tables and lists likewise."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite_or_none(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def results(settings, corpus, runs):
    """The content of results.json: every run, its perplexity against the baseline's with everything else the
    same."""
    baseline = {
        (
            run.spec.shape,
            run.spec.context,
            run.spec.recipe,
            run.spec.rate_factor,
            run.spec.seed,
        ): run.perplexity
        for run in runs
        if run.config == "sm_ln_g"
    }

    def delta(run):
        spec = run.spec
        key = (spec.shape, spec.context, spec.recipe, spec.rate_factor, spec.seed)
        return 100 * (run.perplexity / baseline.get(key, math.nan) - 1)

    entries = [
        run.spec.as_json()
        | {
            "norm": CONFIGURATIONS[run.config].norm,
            "activation": CONFIGURATIONS[run.config].activation,
            "options": run.recipe,
            "parameters": run.parameters,
            "steps": run.steps,
            "tokens": run.tokens,
            "eval_loss": run.eval_loss,
            "perplexity": run.perplexity,
            "delta_percent": delta(run),
            "tokens_per_second": run.tokens_per_second,
            "seconds": run.seconds,
            "head_entropy": run.head_entropy,
            "nonfinite_rows": run.nonfinite_rows,
            "slopes": run.slopes[-1][1] if run.slopes else [],
            "stream": run.stream,
        }
        for run in runs
    ]
    return {
        "scale": settings["scale"],
        "corpus": corpus,
        "runs": [finite_or_none(entry) for entry in entries],
    }


class Sections:
    """The experiments of one recipe, as sections of the report; figures go into `pictures`."""

    def __init__(self, recipe, runs, unigram, pictures):
        self.recipe, self.unigram, self.pictures = recipe, unigram, pictures
        self.suffix = "_clean" if recipe == "clean" else ""
        self.title = " (clean recipe)" if recipe == "clean" else ""
        runs = [run for run in runs if run.spec.recipe == recipe]
        self.plain = [run for run in runs if not run.spec.shape.startswith("pythia")]
        self.pythia = [run for run in runs if run.spec.shape.startswith("pythia")]
        self.fixed = [
            run
            for run in self.plain
            if run.spec.rate_factor == 1 and not CONFIGURATIONS[run.config].learnable
        ]
        self.learned = [run for run in self.plain if CONFIGURATIONS[run.config].learnable]

    def draw(self, function, *arguments, name, alt):
        """Draws a figure and returns the Markdown that shows it."""
        function(*arguments, self.pictures / f"{name}{self.suffix}.png")
        return image(alt, name + self.suffix)

    def all(self):
        return [
            *self.perplexity(),
            *self.slopes(),
            *self.other_shape(),
            *self.stability(),
            *self.outliers(),
        ]

    def perplexity(self):
        """The paper's figures 1, 2 and 4 and its main table."""
        if not self.fixed:
            return []
        comparison = Comparison(self.fixed)
        panels = [
            (CONFIGURATIONS[config].label, comparison.by_config[config]) for config in comparison.configs
        ]
        several = len(comparison.seeds) > 1
        first = f" Shown is seed {comparison.seeds[0]}." if several else ""
        mean = " Mean over the seeds." if several else ""
        return [
            f"## Perplexity on held-out files{self.title}",
            perplexity.perplexity_table([("", comparison, paper.GPT2)]),
            perplexity.seeds_sentence(comparison),
            bullets(perplexity.findings(comparison, paper.GPT2)),
            self.draw(
                figures.evaluation_loss,
                comparison,
                name="evaluation_loss",
                alt="Evaluation loss over training",
            ),
            "The paper's figure 2b."
            + (" Lines: mean over the seeds; bands: their range." if several else ""),
            f"## Attention entropy{self.title}",
            self.draw(figures.heatmaps, comparison, name="entropy_heatmaps", alt="Entropy of every head"),
            "The paper's figure 1." + first,
            bullets(entropy.findings(comparison)),
            entropy.quarters_table(comparison),
            "Quarters of E_max, the largest head entropy among all runs above; beside each share the "
            "paper's (GPT-2, 144 heads).",
            self.draw(
                figures.quarters,
                comparison,
                name="entropy_quarters",
                alt="Heads by quarter of the largest entropy",
            ),
            "The paper's figure 2a." + (" Whiskers: standard deviation over the seeds." if several else ""),
            entropy.layer_table(comparison),
            self.draw(
                figures.layer_entropy,
                panels,
                comparison.largest_possible,
                name="layer_entropy",
                alt="Mean entropy per layer over training",
            ),
            "The paper's figure 4." + mean,
        ]

    def slopes(self):
        """The paper's figures 3 and 5."""
        groups = slopes.groups_of(self.learned)
        lost = [run.spec.label for run in self.learned if run.diverged]
        parts = [f"## Learnable slopes{self.title}"] if groups or lost else []
        if lost:
            parts.append(bullets([f"**{label} diverged** and is left out." for label in lost]))
        if not groups:
            return parts
        parts += [slopes.slope_table(groups), bullets(slopes.findings(groups))]
        for scope, figure in (("layerwise", "3a"), ("global", "3b")):
            same = [group for group in groups if slopes.scope_of(group.config) == scope]
            if same:
                name = f"slopes_{scope}"
                parts += [
                    self.draw(figures.slopes, same, name=name, alt=f"Slopes over training, {scope}"),
                    f"The paper's figure {figure}, decayed as in its code beside not decayed.",
                ]
        panels = [(group.label, group.runs) for group in groups]
        largest = Comparison([group.runs[0] for group in groups]).largest_possible
        parts += [
            self.draw(
                figures.layer_entropy,
                panels,
                largest,
                name="slopes_layer_entropy",
                alt="Mean entropy per layer, learnable slopes",
            ),
            "The paper's figure 5.",
        ]
        return parts

    def other_shape(self):
        """The paper's table of Pythia-70M at two context lengths."""
        contexts = sorted({run.spec.context for run in self.pythia})
        if not contexts:
            return []
        found = {
            context: Comparison([run for run in self.pythia if run.spec.context == context])
            for context in contexts
        }
        parts = [
            f"## Pythia{self.title}",
            "Rotary positions, parallel residual, untied output. Longer windows come with as many fewer steps, so "
            "that the tokens are the same.",
            perplexity.perplexity_table(
                [
                    (f"T = {context}: ", comparison, paper.PYTHIA.get(context, {}))
                    for context, comparison in found.items()
                ]
            ),
            perplexity.seeds_sentence(found[contexts[0]]),
        ]
        for context, comparison in found.items():
            if context in paper.PYTHIA:
                parts += [
                    f"### T = {context}",
                    bullets(perplexity.findings(comparison, paper.PYTHIA[context])),
                ]
        return parts

    def stability(self):
        """Multiples of the learning rate."""
        runs = [run for run in self.plain if not CONFIGURATIONS[run.config].learnable]
        if all(run.spec.rate_factor == 1 for run in runs):
            return []
        judged = Stability(runs, self.unigram)
        return [
            f"## Stability at higher learning rates{self.title}",
            judged.table(),
            bullets(judged.findings()),
        ]

    def outliers(self):
        """What flows through the residual stream and the hidden layer, where it was logged."""
        if not any(run.stream for run in self.fixed):
            return []
        comparison = Comparison(self.fixed)
        return [
            f"## Residual stream and hidden layer{self.title}",
            "At the end of training, on the held-out files where the evaluation measured it. Kurtosis of the "
            "channels' RMS, mean s⁴ / (mean s²)² over the channels (He et al. 2024): 1 when all channels are equally "
            "strong, the width when one is alone.",
            *outliers.tables(comparison),
            bullets(outliers.findings(comparison)),
        ]


def inference_section(shape, configs):
    """The costs of private inference of a shape, and of the GPT-2 that published costs are of."""
    parts = ["## Private inference"]
    for name in dict.fromkeys((shape, "gpt2")):
        sizes = SHAPES[name]
        parts += [
            f"Nonlinear operations of one token in one layer of {name} ({sizes.heads} heads, width {sizes.width}, "
            f"FFN {sizes.ffn_width}, {sizes.context} tokens; softmax without use of the causal mask; a final norm would be one row more per token, once):",
            private_inference.counts_table(configs, name),
            private_inference.activation_sentence(name),
        ]
    return [*parts, private_inference.measurements_table(), bullets(private_inference.findings())]


def corpus_section(corpus):
    """Where the corpus comes from, and what became of it."""
    parts = [f"{corpus['input']}."]
    packages = (corpus.get("sources") or {}).get("packages") or []
    if packages:
        rows = [
            [
                str(package.get("package", "?")),
                str(package.get("version", "?")),
                *(
                    f"{package[key]:,}" if isinstance(package.get(key), int) else "?"
                    for key in ("files", "bytes")
                ),
            ]
            for package in packages
        ]
        parts.append(table(["Package", "version", "files", "bytes"], rows))
    prepared = corpus["prepared"]
    first = prepared["128"]
    seen = first["documents"]
    sides = [
        (f"{name}, T = {context}", prepared[context][key])
        for context in sorted(prepared, key=int)
        for name, key in (("training", "train"), ("held-out", "held_out"))
    ]
    rows = [
        [name, *(f"{side[name]:,}" for _, side in sides)]
        for name in ("documents", "bytes", "tokens", "windows")
    ]
    parts += [
        f"{seen['seen']:,} files were read and {seen['kept']:,} kept: {seen['duplicates']:,} duplicates, "
        f"{seen['too_small']:,} too small, {seen['too_large']:,} too large and {seen['invalid']:,} "
        f"unreadable ones were left out. Byte-pair encoding with {first['vocab_size']:,} pieces, "
        f"{first['bytes_per_token']:.2f} bytes per token. Training and held-out data have no file in "
        f"common. A model that knows only how often each token occurs has a loss of "
        f"{corpus['unigram_loss']['128']:.3f} nats.",
        table(["Used", *(name for name, _ in sides)], rows),
    ]
    return parts


def recipe_section(runs):
    """The options of the trainers, by shape, context and recipe, and what each run took."""
    parts = [
        "The same for every configuration; only the block's norm and the feed-forward activation differ. AdamW "
        "(betas 0.9 and 0.999), linear warm-up and linear decay, gradient norm clipped at 1. The paper's recipe, "
        "that of its code, has a final LayerNorm in every configuration, dropout of the embeddings and decayed "
        "slopes; the clean one, that of its text, has a final norm only where the blocks have norms, no dropout, and "
        "slopes that do not decay unless the experiment says so."
    ]
    kinds = {}
    for run in runs:
        if run.spec.rate_factor == 1:
            kinds.setdefault(f"{run.spec.shape}, T {run.spec.context}, {run.spec.recipe}", run.recipe)
    options = [
        name
        for name in dict.fromkeys(name for recipe in kinds.values() for name in recipe)
        if name not in ("seed", "decay_slopes")
    ]
    rows = [
        [
            name.replace("_", " "),
            *(
                f"{recipe[name]:,}"
                if isinstance(recipe.get(name), int)
                else f"{recipe.get(name, math.nan):g}"
                for recipe in kinds.values()
            ),
        ]
        for name in options
    ]
    if kinds:
        parts.append(table(["Recipe", *kinds], rows))
    cost = [
        [
            run.spec.label,
            f"{run.parameters:,}",
            f"{run.tokens:,}",
            f"{run.tokens_per_second:,.0f}" if math.isfinite(run.tokens_per_second) else "n/a",
            f"{run.seconds:,.0f}",
        ]
        for run in runs
    ]
    parts.append(table(["Run", "parameters", "tokens trained", "tokens/s", "seconds"], cost))
    return parts


def experiments_of(runs):
    """The experiments whose runs are there."""
    fixed = [run.spec for run in runs if not CONFIGURATIONS[run.config].learnable]
    plain = [spec for spec in fixed if not spec.shape.startswith("pythia")]
    there = {
        "perplexity": plain,
        "slopes": len(fixed) < len(runs),
        "pythia": len(plain) < len(fixed),
        "stability": any(spec.rate_factor != 1 for spec in plain),
    }
    return [name for name, found in there.items() if found]


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
    parts = [
        f"# LayerNorm or none, GELU or ReLU: {scale}, seed{'s' if len(seeds) > 1 else ''} "
        f"{names(map(str, seeds))}",
        f"Decoder-only transformers ({sizes.layers} layers, {sizes.heads} heads, width {sizes.width}, windows of "
        f"{first.spec.context} tokens unless said otherwise) trained on {amount} tokens of Python code each, after "
        "*ReLU's Revival: On the Entropic Overload in Normalization-Free Large Language Models*. SM is softmax "
        "attention, LN LayerNorm, G GELU, R ReLU.",
    ]
    if scale == "smoke":
        parts.append(
            "> **This is a smoke run. It shows nothing but that the path works: read no result into its "
            "numbers.**"
        )
    if unfinished:
        parts.append(f"Not finished and therefore left out: {'; '.join(unfinished)}.")
    for recipe in ("paper", "clean"):
        if any(run.spec.recipe == recipe for run in runs):
            parts += Sections(recipe, runs, corpus["unigram_loss"]["128"], pictures).all()
    used = {run.config for run in runs}
    parts += inference_section(shape, [config for config in CONFIGURATIONS if config in used])
    parts += ["## What this scale can and cannot show", bullets(SCALE_NOTES[scale])]
    parts += ["## Recipe", *recipe_section(runs), "## Corpus", *corpus_section(corpus)]
    experiments = ",".join(experiments_of(runs))
    own = settings["corpus"] != "debian"
    corpus_option = f" --corpus {shlex.quote(settings['corpus'])}" if own else ""
    parts += [
        "## Running it again",
        "```sh\n"
        f"examples/reproduce.sh --experiment {experiments} --scale {scale} --seed {seeds[0]} --seeds {len(seeds)}{corpus_option}\n"
        "examples/reproduce/report.py --run-dir DIR    # tables and figures alone, from the logs in DIR\n```",
        "All numbers of this page are in [results.json](results.json).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_report(root):
    """Writes results.json, report.md, report.html and figures/*.png into a root folder from what its trainers
    left."""
    settings, corpus, runs, unfinished = read_root(root)
    pictures = root / "figures"
    pictures.mkdir(exist_ok=True)
    text = markdown(settings, corpus, runs, unfinished, pictures)
    write_text(root / "report.md", text)
    write_text(root / "report.html", html_page(text, root))
    write_text(
        root / "results.json", json.dumps(results(settings, corpus, runs), indent=2, allow_nan=False) + "\n"
    )


def main():
    parser = argparse.ArgumentParser(prog="report.py", description=__doc__.split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help="folder written by reproduce.sh (its --out); results.json, report.md, report.html and figures/ go there",
    )
    what.add_argument(
        "--private-inference",
        choices=list(SHAPES),
        metavar="SHAPE",
        help=f"print what the nonlinearities of a shape ({', '.join(SHAPES)}) cost in private inference",
    )
    arguments = parser.parse_args()
    if arguments.private_inference:
        shape = arguments.private_inference
        print("\n\n".join(inference_section(shape, list(CONFIGURATIONS))))
        return
    root = arguments.run_dir
    try:
        write_report(root)
    except (ReportError, JobError, OSError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"wrote {root / 'report.html'}, report.md, results.json and figures/")


if __name__ == "__main__":
    main()
