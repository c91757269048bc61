"""The abilities of the models of the perplexity experiment, measured on held-out files by the program
downstream (docs/downstream.md): classes of tokens, names, brackets, repetition, calibration, sinks,
attribution."""

import math

from comparison import Comparison, Estimate
from configurations import CONFIGURATIONS
from corpus import PROJECT
from experiments import perplexity
from programs import ProgramRefused, run_to_end
from text import bullets, names, table

ORDER = 19
HELP = "the runs of perplexity, and their abilities: names, brackets, calibration, attribution"
BEYOND = True
PROGRAMS = ("downstream",)

# The maximum number of windows of the held-out files: on a CPU, seconds for the demo and minutes for GPT-2.
WINDOWS = 2000
CLASSES = ("identifier", "keyword", "number", "string", "comment", "operator", "whitespace")
# Rounding in float keeps the attribution error and the error of the sum below this.
ROUNDING = 1e-6
# (place in downstream.json, what it is called, factor, format)
OTHERS = (
    (("names", "copied", "accuracy"), "names 20 to 100 tokens later (%)", 100, ".1f"),
    (("names", "first", "accuracy"), "names for the first time (%)", 100, ".1f"),
    (("brackets", "all", "accuracy"), "closing brackets (%)", 100, ".1f"),
    (("induction", "first", "loss"), "loss on random tokens", 1, ".2f"),
    (("induction", "second", "loss"), "repeated", 1, ".2f"),
    (("calibration", "ece"), "calibration error", 1, ".4f"),
    (("output_entropy",), "output entropy (nats)", 1, ".2f"),
    (("sinks", "sink_rate"), "attention sinks (% of heads)", 100, ".1f"),
    (("attribution", "error"), "attribution error (%)", 100, ".3g"),
    (("attribution", "attention_error"), "of attention (%)", 100, ".3g"),
)


def grid(request):
    return perplexity.grid(request)


def measure(jobs, arguments, corpus, stop):
    """Writes a downstream.json into the folder of every run that did not diverge and has none yet; `corpus`
    is the folder of the shards, with the held-out text."""
    waiting = [job for job in jobs if not job.diverged and not (job.folder / "downstream.json").exists()]
    if not waiting:
        return
    log, annotated = arguments.out / "downstream.log", arguments.out / "annotated.jsonl"
    if not annotated.exists():
        print("downstream: classes of the held-out files' tokens", flush=True)
        annotate = PROJECT / "examples" / "annotate_python.py"
        try:
            run_to_end(
                [annotate, corpus / "held_out.jsonl", "--out", annotated], log, stop, "annotating the held-out files"
            )
        except ProgramRefused as refusal:  # a corpus of another language; the runs are fine
            print(f"downstream: not measured: {refusal}", flush=True)
            return
    for job in waiting:
        print(f"downstream: {job.label}", flush=True)
        run_to_end(
            [
                arguments.programs / "downstream",
                "--checkpoint",
                job.folder / "checkpoint",
                "--tokenizer",
                next(corpus.glob("tokenizer.*")),
                "--annotated",
                annotated,
                "--windows",
                WINDOWS,
                "--json",
                job.folder / "downstream.json",
            ],
            log,
            stop,
            f"measuring {job.label}",
        )


def value(run, *place):
    """A number of a run's downstream.json; NaN if there is none."""
    found = run.downstream
    for name in place:
        found = found.get(name) if isinstance(found, dict) else None
    return float(found) if isinstance(found, (int, float)) else math.nan


def estimate(comparison, config, *place, factor=1):
    """Over the seeds."""
    return Estimate.of([factor * value(run, *place) for run in comparison.sound(config)])


def ranked(comparison, *place):
    """(config, Estimate) of those that have the number, the smallest first."""
    found = [(config, estimate(comparison, config, *place)) for config in comparison.configs]
    return sorted((pair for pair in found if pair[1].count), key=lambda pair: pair[1].mean)


def accuracy_sentence(comparison):
    """Which configuration predicts best, where they differ most, and whether the order is that by
    perplexity."""
    order = ranked(comparison, "all", "accuracy")
    if len(order) < 2:
        return None
    (worst, low), (best, high) = order[0], order[-1]
    by_loss = [config for config in comparison.configs if comparison.perplexity(config).count]
    by_loss.sort(key=lambda config: comparison.perplexity(config).mean)
    same = [config for config, _ in reversed(order)] == by_loss
    spreads = {}
    for name in CLASSES:
        of_class = ranked(comparison, "classes", name, "accuracy")
        if len(of_class) > 1:
            spreads[name] = 100 * (of_class[-1][1].mean - of_class[0][1].mean)
    widest = max(spreads, key=spreads.get)
    return (
        f"Next token: {CONFIGURATIONS[best].label} is right most often ({100 * high.mean:.1f} %), "
        f"{CONFIGURATIONS[worst].label} least "
        f"({100 * low.mean:.1f} %); the order by accuracy **is{'' if same else ' not'}** that by perplexity. "
        "The configurations differ "
        f"most on {widest} tokens, by {spreads[widest]:.1f} points."
    )


def copying_sentence(comparison):
    """How much better a name is predicted that has occurred before."""
    parts = []
    for config in comparison.configs:
        gains = [
            100 * (value(run, "names", "copied", "accuracy") - value(run, "names", "first", "accuracy"))
            for run in comparison.sound(config)
        ]
        gain = Estimate.of(gains)
        if gain.count:
            parts.append(f"{gain.text('+.1f')} points in {CONFIGURATIONS[config].label}")
    return f"Accuracy on names seen 20 to 100 tokens before, minus that on new ones: {names(parts)}." if parts else None


def induction_sentence(comparison):
    """Whether repetition of random tokens is noticed."""
    gains = {}
    for config in comparison.configs:
        gain = Estimate.of(
            [
                value(run, "induction", "first", "loss") - value(run, "induction", "second", "loss")
                for run in comparison.sound(config)
            ]
        )
        if gain.count:
            gains[config] = gain
    if not gains:
        return None
    best = max(gains, key=lambda config: gains[config].mean)
    # The first half costs about ln V, so at most that much can be gained.
    noticed = [CONFIGURATIONS[config].label for config, gain in gains.items() if gain.mean > 1]
    return (
        f"Random tokens repeated: {names(noticed) if noticed else 'no configuration'} "
        f"gain{'s' if len(noticed) < 2 else ''} more than one nat "
        f"from having seen them before; the largest gain is {gains[best].text()} nats, of {CONFIGURATIONS[best].label}."
    )


def calibration_sentence(comparison):
    """Which configurations are calibrated best and worst, and in which direction."""
    order = ranked(comparison, "calibration", "ece")
    if not order:
        return None
    parts = []
    for config, error in (order[0], order[-1]) if len(order) > 1 else order:
        excess = Estimate.of(
            [
                value(run, "calibration", "confidence") - value(run, "all", "accuracy")
                for run in comparison.sound(config)
            ]
        )
        parts.append(
            f"{CONFIGURATIONS[config].label} {error.text('.4f')} ({'over' if excess.mean > 0 else 'under'}confident)"
        )
    return f"Calibration error: {' at best, '.join(parts)}{' at worst' if len(parts) > 1 else ''}."


def attribution_sentence(comparison):
    """In which configurations direct logit attribution is exact."""
    order = ranked(comparison, "attribution", "error")
    exact = [CONFIGURATIONS[config].label for config, error in order if error.mean < ROUNDING]
    others = [
        f"{100 * error.mean:.0f} % in {CONFIGURATIONS[config].label}"
        for config, error in order
        if error.mean >= ROUNDING
    ]
    sentences = []
    if exact:
        sentences.append(
            f"Direct logit attribution is **exact**, up to rounding, in {names(exact)}, which "
            f"ha{'s' if len(exact) == 1 else 've'} no final norm."
        )
    if others:
        sentences.append(
            f"After a final norm, direct logit attribution is off by {names(others)}, relative to the true effects."
        )
    return " ".join(sentences) or None


def tables(comparison):
    """Accuracy by class, and the other quantities."""
    classes = [("all",), *(("classes", name) for name in CLASSES)]
    rows, others = [], []
    for config in comparison.configs:
        label = CONFIGURATIONS[config].label
        rows.append(
            [label, *(estimate(comparison, config, *place, "accuracy", factor=100).text(".1f") for place in classes)]
        )
        others.append(
            [
                label,
                *(estimate(comparison, config, *place, factor=factor).text(form) for place, _, factor, form in OTHERS),
            ]
        )
    return [
        table(["Accuracy (%) on", *(place[-1] for place in classes)], rows),
        table(["", *(title for _, title, _, _ in OTHERS)], others),
    ]


def section(chapter):
    """The measurements of the runs that have them."""
    runs = [run for run in chapter.fixed if run.downstream and not run.diverged]
    if not runs:
        return []
    comparison = Comparison(runs)
    sources = runs[0].downstream
    several = len(comparison.seeds) > 1
    return [
        chapter.title("Downstream"),
        f"The models on Python source that they have not seen: {sources['windows']} windows of {sources['context']} "
        f"tokens from {sources['texts']} held-out files, by the classes of Python's own tokenizer. A name "
        "counts if it last occurred 20 to 100 tokens before; names that are new in the window are listed for "
        "comparison. A closing bracket is right if the most probable token closes with the same one. "
        "Attribution error: the difference between a part's effect on the logit of the true token by direct "
        "logit attribution and the true effect of removing that part before the final norm, relative to the "
        "latter."
        + (" Mean ± standard deviation over the seeds." if several else ""),
        *tables(comparison),
        bullets(
            [
                accuracy_sentence(comparison),
                copying_sentence(comparison),
                induction_sentence(comparison),
                calibration_sentence(comparison),
                attribution_sentence(comparison),
            ]
        ),
        chapter.draw(draw, comparison, name="downstream", alt="Accuracy by class of token, and calibration"),
        "Left: accuracy by class. Right: accuracy of predictions by confidence; on the diagonal they are calibrated.",
    ]


def draw(figures, comparison):
    """Two panels: accuracy by class, a group of bars each, and the calibration curve of each configuration."""
    figure, (left, right) = figures.plt.subplots(
        1, 2, figsize=(10.5, 4.0), layout="constrained", gridspec_kw={"width_ratios": [3, 2]}
    )
    width = 0.8 / len(comparison.configs)
    for index, config in enumerate(comparison.configs):
        found = [estimate(comparison, config, "classes", name, "accuracy", factor=100) for name in CLASSES]
        places = [place + (index + 0.5) * width - 0.4 for place in range(len(CLASSES))]
        left.bar(
            places,
            [one.mean if one.count else 0 for one in found],
            width,
            yerr=[one.deviation if math.isfinite(one.deviation) else 0 for one in found],
            color=figures.COLORS[config],
            label=figures.label(config),
            error_kw={"elinewidth": 1, "ecolor": "#333333"},
        )
        points = curve(comparison.sound(config))
        right.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=figures.COLORS[config],
            marker=figures.MARKERS[config],
            markersize=4,
            linewidth=1.5,
        )
    left.set_xticks(range(len(CLASSES)), CLASSES)
    left.set_ylabel("accuracy (%)")
    left.grid(axis="y", zorder=0)
    right.plot([0, 1], [0, 1], color="#999999", linewidth=0.9, linestyle=(0, (4, 3)))
    right.set_xlabel("confidence")
    right.set_ylabel("accuracy")
    right.grid(zorder=0)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles, labels, frameon=False, ncols=min(4, len(labels)), loc="lower center", bbox_to_anchor=(0.5, 1.0)
    )
    return figure


def curve(runs):
    """[(confidence, accuracy)] of the bins of all seeds together that hold predictions."""
    points = []
    for bins in zip(*(run.downstream["calibration"]["bins"] for run in runs)):
        count = sum(one["targets"] for one in bins)
        if count:
            sums = [
                sum(one["targets"] * one[name] for one in bins if one["targets"]) for name in ("confidence", "accuracy")
            ]
            points.append((sums[0] / count, sums[1] / count))
    return points
