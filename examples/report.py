#!/usr/bin/python3
"""Compares the trained configurations in a run folder with each other and with the paper.

Reads what the trainers left in the folder and writes results.json, report.md and figures/*.png into it. Every
finding in the report is computed from these files; the paper's numbers stand beside them as constants.
"""

import argparse
import json
import math
import shlex
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import figures


class ReportError(Exception):
    """One clear sentence: which file, what is wrong with it, what to do."""


@dataclass(frozen=True)
class Configuration:
    """One of the paper's architectures, with the paper's numbers for it (tables 2 and 3, figure 2a)."""

    label: str
    norm: str
    activation: str
    paper_gpt2: tuple  # evaluation perplexity of GPT-2, T = 128, and its change in % as printed
    paper_pythia: tuple  # the same of Pythia-70M, T = 128
    paper_quarters: tuple  # % of heads by quarter of the largest head entropy


CONFIGURATIONS = {
    "sm_ln_g": Configuration(
        "SM + LN + G", "LayerNorm", "GELU", (2.688, 0.00), (3.512, 0.00), (4, 14, 74, 8)
    ),
    "sm_ln_r": Configuration(
        "SM + LN + R", "LayerNorm", "ReLU", (2.757, 2.53), (3.590, 2.22), (6, 16, 74, 3)
    ),
    "sm_g": Configuration("SM + G", "Identity", "GELU", (3.197, 18.92), (4.086, 16.35), (1, 18, 23, 58)),
    "sm_r": Configuration("SM + R", "Identity", "ReLU", (2.936, 9.20), (3.736, 6.36), (3, 20, 53, 24)),
}
BASELINE = "sm_ln_g"
# Mean entropies of early layers that differ by less (nats) are called equal; where overload showed, it was
# 0.3 to 0.8.
CLEAR_DIFFERENCE = 0.1


@dataclass
class Run:
    """One evaluated configuration. Values that are not finite are NaN here and null in results.json."""

    config: str
    parameters: int
    steps: int
    tokens: int
    eval_loss: float  # nats per target
    perplexity: float
    tokens_per_second: float  # median over the training lines
    seconds: float  # spent training, over all resumes
    head_entropy: np.ndarray  # (layers, heads), nats
    nonfinite_rows: int
    evaluations: list  # (step, loss)
    entropies: list  # (step, (layers, heads))
    losses_not_finite: int  # training lines whose loss is null

    @property
    def label(self):
        return CONFIGURATIONS[self.config].label

    @property
    def diverged(self):
        return not math.isfinite(self.perplexity)


def percent_above(value, reference):
    """How far `value` lies above `reference` in %, NaN where either is missing."""
    return 100 * (value / reference - 1)


def largest_possible_entropy(context):
    """Mean entropy of uniform causal attention: query i of 1..T reaches ln i at most."""
    return sum(math.log(i) for i in range(1, context + 1)) / context


# Reading a run folder


def read_json(path, hint):
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReportError(f"{path} is missing; {hint}.") from error
    except ValueError as error:
        raise ReportError(f"{path} is not valid JSON ({error}); {hint}.") from error
    if not isinstance(value, dict):
        raise ReportError(f"{path} holds no JSON object; {hint}.")
    return value


def number(value):
    """null as NaN."""
    return math.nan if value is None else float(value)


def entropy_matrix(value, where):
    try:
        matrix = np.array([[number(head) for head in layer] for layer in value], dtype=float)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ReportError(f"head_entropy in {where} is not a table of layers by heads; evaluate again.")
    return matrix


def read_metrics(path):
    """The lines of metrics.jsonl as {kind: [lines by step]}.

    Of a step logged twice the later line counts (a resumed run repeats what it had not saved); a line cut off
    by a crash is left out.
    """
    kinds = {"train": {}, "eval": {}, "entropy": {}}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise ReportError(f"{path} is missing; the run was not trained here.") from error
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            kinds[entry["kind"]][int(entry["step"])] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return {kind: [entries[step] for step in sorted(entries)] for kind, entries in kinds.items()}


def read_run(folder, settings):
    """One configuration's folder as a Run."""
    recipe = settings["recipe"]
    where = folder / "evaluation.json"
    evaluation = read_json(where, "remove it and run the job again")
    metrics = read_metrics(folder / "metrics.jsonl")
    speeds = [line["tokens_per_second"] for line in metrics["train"] if line.get("tokens_per_second")]
    try:
        loss, rows = number(evaluation["eval_loss"]), int(evaluation["nonfinite_rows"])
        head_entropy = entropy_matrix(evaluation["head_entropy"], where)
        run = Run(
            config=folder.name,
            parameters=int(evaluation["parameters"]),
            steps=recipe["steps"],
            tokens=recipe["steps"] * recipe["batch_size"] * recipe["context"],
            eval_loss=loss,
            perplexity=number(evaluation["perplexity"]),
            tokens_per_second=statistics.median(speeds) if speeds else math.nan,
            seconds=number(read_json(folder / "run.json", "run the job again")["seconds"]),
            head_entropy=head_entropy,
            nonfinite_rows=rows,
            evaluations=[(line["step"], number(line.get("eval_loss"))) for line in metrics["eval"]],
            entropies=[
                (line["step"], entropy_matrix(line.get("head_entropy"), folder / "metrics.jsonl"))
                for line in metrics["entropy"]
            ],
            losses_not_finite=sum(line.get("loss") is None for line in metrics["train"]),
        )
    except KeyError as error:
        raise ReportError(f"{where} has no {error}; remove it and run the job again.") from error
    if any(matrix.shape != head_entropy.shape for _, matrix in run.entropies):
        raise ReportError(
            f"{folder / 'metrics.jsonl'} and {where} disagree on the number of layers or heads."
        )
    # The curve ends where the table says it ends, whether or not the trainer evaluated after its last step.
    if not run.evaluations or run.evaluations[-1][0] < run.steps:
        run.evaluations.append((run.steps, loss))
    return run


def read_folder(folder):
    """(settings, corpus, evaluated runs, labels of unfinished ones) of a run folder."""
    settings = read_json(
        folder / "settings.json", "give the folder that examples/reproduce.sh wrote (its --out)"
    )
    corpus = read_json(folder / "corpus.json", "run the job again")
    try:
        for name in ("layers", "heads", "width", "context", "batch_size", "steps", "learning_rate"):
            settings["recipe"][name]
        settings["scale"], settings["seed"]
        corpus_section(corpus)
    except (KeyError, TypeError) as error:
        raise ReportError(
            f"settings.json or corpus.json in {folder} has no {error}; was it written by another version?"
        ) from error
    begun = [config for config in CONFIGURATIONS if (folder / config).is_dir()]
    runs = [
        read_run(folder / config, settings)
        for config in begun
        if (folder / config / "evaluation.json").exists()
    ]
    unfinished = [
        CONFIGURATIONS[config].label for config in begun if config not in {run.config for run in runs}
    ]
    if not runs:
        raise ReportError(f"{folder} holds no evaluated configuration yet; run the job again to go on.")
    if len({run.head_entropy.shape for run in runs}) > 1:
        raise ReportError(
            f"the configurations in {folder} differ in layers or heads, so they cannot be compared."
        )
    return settings, corpus, runs, unfinished


# What the numbers say


class Comparison:
    """The runs of a report and everything computed from them."""

    def __init__(self, settings, runs):
        self.runs = runs
        self.by_config = {run.config: run for run in runs}
        self.largest_possible = largest_possible_entropy(settings["recipe"]["context"])
        stacked = np.stack([run.head_entropy for run in runs])
        self.largest = float(np.nanmax(stacked)) if np.isfinite(stacked).any() else math.nan
        self.quarters = {run.config: self._quarters(run) for run in runs}
        layers = runs[0].head_entropy.shape[0]
        # Layer 0 attends broadly in every configuration.
        self.early = range(1, max(2, layers // 2 + 1)) if layers > 1 else range(1)

    def _quarters(self, run):
        """Shares of the finite heads in the four quarters of the largest head entropy of all runs; the last
        is closed."""
        finite = run.head_entropy[np.isfinite(run.head_entropy)]
        if not finite.size or not self.largest > 0:
            return [math.nan] * 4
        index = np.minimum((4 * finite / self.largest).astype(int), 3)
        return (np.bincount(index, minlength=4) / finite.size).tolist()

    def perplexity(self, config):
        return self.by_config[config].perplexity if config in self.by_config else math.nan

    def delta(self, config):
        """Perplexity against the baseline in %, NaN without one."""
        return percent_above(self.perplexity(config), self.perplexity(BASELINE))

    def early_entropy(self, config):
        """Mean over the heads of the early layers."""
        return float(self.by_config[config].head_entropy[list(self.early)].mean())


def finite_or_none(value):
    """Numbers for JSON, which has no NaN: null instead; tables and lists likewise."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [finite_or_none(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def results(settings, corpus, comparison):
    """The content of results.json."""
    runs = [
        {
            "config": run.config,
            "norm": CONFIGURATIONS[run.config].norm,
            "activation": CONFIGURATIONS[run.config].activation,
            "parameters": run.parameters,
            "steps": run.steps,
            "tokens": run.tokens,
            "eval_loss": run.eval_loss,
            "perplexity": run.perplexity,
            "delta_percent": comparison.delta(run.config),
            "tokens_per_second": run.tokens_per_second,
            "seconds": run.seconds,
            "head_entropy": run.head_entropy,
            "nonfinite_rows": run.nonfinite_rows,
        }
        for run in comparison.runs
    ]
    return {
        "scale": settings["scale"],
        "seed": settings["seed"],
        "corpus": corpus,
        "recipe": settings["recipe"],
        "runs": [{key: finite_or_none(value) for key, value in run.items()} for run in runs],
    }


# Sentences and tables


def direction(percent):
    """-4.9 as "4.9 % below"."""
    return f"{abs(percent):.1f} % {'below' if percent < 0 else 'above'}"


def signed(percent):
    return f"{percent:+.2f}".replace("-", "−") if abs(percent) >= 0.005 else "0.00"


def table(header, rows):
    """A Markdown table, its columns after the first aligned to the right."""
    return "\n".join(
        "| " + " | ".join(row) + " |" for row in [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    )


def bullets(sentences):
    return "\n".join("- " + sentence for sentence in sentences)


def perplexity_table(comparison):
    rows = []
    for run in comparison.runs:
        paper = CONFIGURATIONS[run.config]
        delta = comparison.delta(run.config)
        rows.append(
            [
                run.label,
                "diverged" if run.diverged else f"**{run.perplexity:.2f}**",
                f"**{signed(delta)}**" if math.isfinite(delta) else "–",
                *(
                    cell
                    for perplexity, change in (paper.paper_gpt2, paper.paper_pythia)
                    for cell in (f"{perplexity:.3f}", signed(change))
                ),
            ]
        )
    return table(
        [
            "Configurations",
            "Eval PPL",
            "+(%)",
            "paper, GPT-2: Eval PPL",
            "+(%)",
            "paper, Pythia-70M: Eval PPL",
            "+(%)",
        ],
        rows,
    )


def pair_sentence(comparison, config, reference, subject):
    """How one configuration's perplexity lies to another's, beside the paper; None if one is missing."""
    if not {config, reference} <= comparison.by_config.keys():
        return None
    one, other = CONFIGURATIONS[config], CONFIGURATIONS[reference]
    lost = [CONFIGURATIONS[name].label for name in (config, reference) if comparison.by_config[name].diverged]
    if lost:
        return f"{subject}: no comparison, {' and '.join(lost)} diverged."
    ours = percent_above(comparison.perplexity(config), comparison.perplexity(reference))
    gpt2, pythia = (
        percent_above(100 + paper[0][1], 100 + paper[1][1])
        for paper in ((one.paper_gpt2, other.paper_gpt2), (one.paper_pythia, other.paper_pythia))
    )
    agrees = "the same direction as in the paper" if (ours < 0) == (gpt2 < 0) else "the opposite of the paper"
    return (
        f"{subject}: {one.label} is **{direction(ours)}** {other.label}, {agrees} "
        f"(GPT-2: {direction(gpt2)}; Pythia-70M: {direction(pythia)})."
    )


def order_sentence(comparison):
    """The order by perplexity, held against the paper's order of the same configurations."""
    whole = [run for run in comparison.runs if not run.diverged]
    if len(whole) < 2:
        return None
    ours = [run.config for run in sorted(whole, key=lambda run: run.perplexity)]
    papers = sorted(ours, key=lambda config: CONFIGURATIONS[config].paper_gpt2)
    names = " < ".join(CONFIGURATIONS[config].label for config in ours)
    if ours == papers:
        return f"Order by perplexity: {names}. This **is** the paper's order."
    return (
        f"Order by perplexity: {names}. This is **not** the paper's order, which is "
        f"{' < '.join(CONFIGURATIONS[config].label for config in papers)}."
    )


def perplexity_findings(comparison):
    sentences = [
        f"**{run.label} diverged**: its loss stopped being a number. Its entropies are those of its last checkpoint."
        for run in comparison.runs
        if run.diverged
    ]
    sentences += [
        f"{run.label}: {run.losses_not_finite} logged training losses are not finite."
        for run in comparison.runs
        if run.losses_not_finite
    ]
    sentences += [
        f"{run.label}: {run.nonfinite_rows} attention rows had scores that are not finite; they are left "
        "out of the entropies."
        for run in comparison.runs
        if run.nonfinite_rows
    ]
    sentences += [
        order_sentence(comparison),
        pair_sentence(comparison, "sm_r", "sm_g", "ReLU for GELU without LayerNorm"),
        pair_sentence(comparison, "sm_ln_r", "sm_ln_g", "ReLU for GELU with LayerNorm"),
        pair_sentence(comparison, "sm_g", "sm_ln_g", "Taking LayerNorm away from GELU"),
        pair_sentence(comparison, "sm_r", "sm_ln_r", "Taking LayerNorm away from ReLU"),
    ]
    return [sentence for sentence in sentences if sentence]


def quarters_table(comparison):
    def share(value):
        return f"{100 * value:.0f} %" if math.isfinite(value) else "n/a"

    rows = [
        [run.label]
        + [
            cell
            for ours, paper in zip(comparison.quarters[run.config], CONFIGURATIONS[run.config].paper_quarters)
            for cell in (share(ours), f"{paper} %")
        ]
        for run in comparison.runs
    ]
    header = [cell for name in ("0 – ¼", "¼ – ½", "½ – ¾", "¾ – 1") for cell in (name, "paper")]
    return table(["Share of heads", *header], rows)


def layer_table(comparison):
    layers = comparison.runs[0].head_entropy.shape[0]
    rows = [
        [run.label]
        + [f"{mean:.2f}" if math.isfinite(mean) else "n/a" for mean in run.head_entropy.mean(axis=1)]
        for run in comparison.runs
    ]
    return table(["Mean entropy (nats), layer", *map(str, range(layers))], rows)


def entropy_findings(comparison):
    if not math.isfinite(comparison.largest):
        return ["No head has a finite entropy, so there is nothing to compare."]
    run = next(run for run in comparison.runs if (run.head_entropy == comparison.largest).any())
    layer, head = np.argwhere(run.head_entropy == comparison.largest)[0]
    sentences = [
        f"The largest head entropy, E_max, is {comparison.largest:.2f} nats ({run.label}, layer {layer}, "
        f"head {head}); uniform causal attention would give {comparison.largest_possible:.2f}."
    ]
    diverged = [run.label for run in comparison.runs if run.diverged]
    if diverged:
        sentences.append(
            f"{' and '.join(diverged)} diverged: what follows leaves "
            f"{'it' if len(diverged) == 1 else 'them'} out."
        )
    sound = {run.config for run in comparison.runs if not run.diverged}
    top = {
        config: shares[3]
        for config, shares in comparison.quarters.items()
        if config in sound and math.isfinite(shares[3])
    }
    if len(top) > 1:
        most = max(top.values())
        leaders = [config for config in top if top[config] == most]
        papers = max(top, key=lambda config: CONFIGURATIONS[config].paper_quarters[3])
        names = ", ".join(CONFIGURATIONS[config].label for config in leaders)
        verdict = (
            "as in the paper" if leaders == [papers] else f"in the paper it is {CONFIGURATIONS[papers].label}"
        )
        sentences.append(f"Most heads in the top quarter: {names} with {100 * most:.0f} %; {verdict}.")
    if {"sm_g", "sm_r"} <= sound:
        gelu, relu = comparison.early_entropy("sm_g"), comparison.early_entropy("sm_r")
        first, last = comparison.early[0], comparison.early[-1]
        layers = f"layers {first} to {last}" if first != last else f"layer {first}"
        if math.isfinite(gelu) and math.isfinite(relu):
            verdict = (
                "The paper's entropic overload with GELU **shows**"
                if gelu - relu >= CLEAR_DIFFERENCE
                else (
                    "The paper's entropic overload with GELU does **not** show"
                    if gelu - relu > -CLEAR_DIFFERENCE
                    else "This is the **opposite** of the paper's entropic overload with GELU"
                )
            )
            sentences.append(
                f"Early layers ({layers}) without LayerNorm: {gelu:.2f} nats on average with GELU, "
                f"{relu:.2f} with ReLU. {verdict}."
            )
        else:
            sentences.append(
                "Early layers without LayerNorm: no comparison, some of their entropies are not finite."
            )
    return sentences


SCALE_NOTES = {
    "smoke": [
        "**Nothing but that the whole path works**, from the corpus to the figures. These models have seen "
        "about a hundredth of the demo's training, too little for attention to leave its near-uniform "
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
        "One run per configuration and seed. For a claim, run several seeds.",
    ],
}


def corpus_section(corpus):
    """Where the corpus comes from, and what became of it."""
    lines = [f"{corpus['input']}."]
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
        lines += ["", table(["Package", "version", "files", "bytes"], rows)]

    prepared = corpus["prepared"]
    seen, train, held_out = prepared["documents"], prepared["train"], prepared["held_out"]
    rows = [
        [name] + [f"{side[name]:,}" for side in (train, held_out)]
        for name in ("documents", "bytes", "tokens", "windows")
    ]
    lines += [
        "",
        f"{seen['seen']:,} files were read and {seen['kept']:,} kept: {seen['duplicates']:,} duplicates, "
        f"{seen['too_small']:,} too small, {seen['too_large']:,} too large and {seen['invalid']:,} "
        f"unreadable ones were left out. Byte-pair encoding with {prepared['vocab_size']:,} pieces, "
        f"{prepared['bytes_per_token']:.2f} bytes per token. Training and held-out data have no file in "
        "common.",
        "",
        table(["Used", "training", "held-out"], rows),
    ]
    return "\n".join(lines)


def recipe_section(settings, comparison):
    recipe = settings["recipe"]
    rows = [
        [name.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:g}"]
        for name, value in recipe.items()
    ]
    cost = [
        [
            run.label,
            CONFIGURATIONS[run.config].norm,
            CONFIGURATIONS[run.config].activation,
            f"{run.parameters:,}",
            f"{run.tokens:,}",
            f"{run.tokens_per_second:,.0f}" if math.isfinite(run.tokens_per_second) else "n/a",
            f"{run.seconds:,.0f}",
        ]
        for run in comparison.runs
    ]
    return "\n\n".join(
        [
            "The same for every configuration; only the block's norm and the feed-forward activation "
            "differ. AdamW (betas 0.9 and 0.999), linear warm-up and linear decay, gradient norm clipped "
            "at 1; a final LayerNorm in every configuration, as in the paper's experiments.",
            table(["Recipe", ""], rows),
            table(
                [
                    "Configuration",
                    "norm",
                    "activation",
                    "parameters",
                    "tokens trained",
                    "tokens/s",
                    "seconds",
                ],
                cost,
            ),
        ]
    )


def markdown(settings, corpus, comparison, unfinished):
    """The content of report.md."""
    recipe, scale = settings["recipe"], settings["scale"]
    tokens = comparison.runs[0].tokens
    amount = f"{tokens / 1e6:.1f} million" if tokens >= 1e6 else f"{tokens / 1e3:.0f} thousand"
    parts = [
        f"# LayerNorm or none, GELU or ReLU: {scale}, seed {settings['seed']}",
        f"Decoder-only transformers ({recipe['layers']} layers, {recipe['heads']} heads, width "
        f"{recipe['width']}, context {recipe['context']}) trained on {amount} tokens of Python code each, "
        "after *ReLU's Revival: On the Entropic Overload in Normalization-Free Large Language Models*. SM "
        "is softmax attention, LN LayerNorm, G GELU, R ReLU.",
    ]
    if scale == "smoke":
        parts.append(
            "> **This is a smoke run. It shows nothing but that the path works: read no result into its "
            "numbers.**"
        )
    if unfinished:
        parts.append(f"Not finished and therefore left out: {', '.join(unfinished)}.")
    parts += [
        "## Perplexity on held-out files",
        perplexity_table(comparison),
        bullets(perplexity_findings(comparison)),
        "![Evaluation loss over training](figures/evaluation_loss.png)",
        "## Attention entropy",
        "![Entropy of every head](figures/entropy_heatmaps.png)",
        bullets(entropy_findings(comparison)),
        quarters_table(comparison),
        "Quarters of E_max, the largest head entropy among all configurations above; beside each share the "
        "paper's (GPT-2, 144 heads).",
        "![Heads by quarter of the largest entropy](figures/entropy_quarters.png)",
        layer_table(comparison),
        "![Mean entropy per layer over training](figures/layer_entropy.png)",
    ]
    if scale in SCALE_NOTES:
        parts += ["## What this scale can and cannot show", bullets(SCALE_NOTES[scale])]
    parts += ["## Recipe", recipe_section(settings, comparison), "## Corpus", corpus_section(corpus)]
    own = settings.get("corpus", "debian") != "debian"
    corpus_option = f" --corpus {shlex.quote(settings['corpus'])}" if own else ""
    parts += [
        "## Running it again",
        "```sh\n"
        f"examples/reproduce.sh --scale {scale} --seed {settings['seed']}{corpus_option}\n"
        f"examples/report.py --run-dir DIR    # tables and figures alone, from the logs in DIR\n```",
        "All numbers of this page are in [results.json](results.json).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_report(folder):
    """Writes results.json, report.md and figures/*.png into a run folder from what its trainers left."""
    settings, corpus, runs, unfinished = read_folder(folder)
    comparison = Comparison(settings, runs)
    pictures = folder / "figures"
    pictures.mkdir(exist_ok=True)
    figures.heatmaps(runs, comparison.largest_possible, pictures / "entropy_heatmaps.png")
    figures.quarters(runs, comparison.quarters, pictures / "entropy_quarters.png")
    figures.evaluation_loss(runs, pictures / "evaluation_loss.png")
    figures.layer_entropy(runs, comparison.largest_possible, pictures / "layer_entropy.png")
    texts = {
        "report.md": markdown(settings, corpus, comparison, unfinished),
        "results.json": json.dumps(results(settings, corpus, comparison), indent=2, allow_nan=False) + "\n",
    }
    for name, text in texts.items():
        temporary = folder / (name + ".part")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / name)


def main():
    parser = argparse.ArgumentParser(prog="report.py", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--run-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder written by reproduce.sh (its --out); results.json, report.md and figures/ go there too",
    )
    folder = parser.parse_args().run_dir
    try:
        write_report(folder)
    except (ReportError, OSError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"wrote {folder / 'report.md'}, results.json and figures/")


if __name__ == "__main__":
    main()
