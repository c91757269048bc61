"""The perplexities of configurations compared with the paper's, and the findings."""

import math

import numpy as np

from comparison import Comparison
from configurations import BASELINE, CONFIGURATIONS, PAPER_CONFIGS
from text import bullets, direction, names, signed, table

ORDER = 1
HELP = "the four configurations; the paper's figures 1, 2, 4 and main table"

# The paper's table 2: evaluation perplexity of GPT-2 and its change in % as printed.
PAPER = {"sm_ln_g": (2.688, 0.00), "sm_ln_r": (2.757, 2.53), "sm_g": (3.197, 18.92), "sm_r": (2.936, 9.20)}
PAIRS = (
    ("sm_r", "sm_g", "ReLU for GELU without LayerNorm"),
    ("sm_ln_r", "sm_ln_g", "ReLU for GELU with LayerNorm"),
    ("sm_g", "sm_ln_g", "Removing LayerNorm with GELU"),
    ("sm_r", "sm_ln_r", "Removing LayerNorm with ReLU"),
)


def _delta_text(delta):
    if delta.count == 0:
        return "–"
    return f"**{delta.text('+.2f') if delta.count > 1 and delta.deviation > 0 else signed(delta.mean)}**"


def _cells(comparison, config, printed):
    """Ours and the paper's perplexity and change."""
    estimate = comparison.perplexity(config)
    lost = len(comparison.by_config[config]) - estimate.count
    text = f"**{estimate.text()}**" if estimate.count else "diverged"
    text += f" ({lost} diverged)" if lost and estimate.count else ""
    ours = [text, _delta_text(comparison.delta(config))]
    return ours + (
        [f"{printed[config][0]:.3f}", signed(printed[config][1])] if config in printed else ["–", "–"]
    )


def perplexity_table(columns):
    """In the form of the paper's tables. `columns`: (name, Comparison, the paper's numbers) of each group of
    four columns."""
    header = ["Configurations"]
    for name, _, _ in columns:
        header += [f"{name}Eval PPL", "+(%)", "paper: Eval PPL", "+(%)"]
    configs = [
        config
        for config in CONFIGURATIONS
        if any(config in comparison.configs for _, comparison, _ in columns)
    ]
    rows = []
    for config in configs:
        row = [CONFIGURATIONS[config].label]
        for _, comparison, printed in columns:
            row += _cells(comparison, config, printed) if config in comparison.configs else ["–"] * 4
        rows.append(row)
    return table(header, rows)


def seeds_sentence(comparison):
    """How to read numbers over several seeds; empty for one seed."""
    if len(comparison.seeds) < 2:
        return ""
    return (
        f"Mean ± standard deviation over the seeds {names(map(str, comparison.seeds))}; changes in % are "
        "computed seed by seed, so their deviation is that of the difference, not of the perplexities."
    )


def pair_sentence(comparison, config, reference, subject, printed):
    """How one configuration's perplexity compares with another's, and with the paper; None if one is
    missing."""
    if not {config, reference} <= set(comparison.configs):
        return None
    one, other = CONFIGURATIONS[config].label, CONFIGURATIONS[reference].label
    delta = comparison.delta(config, reference)
    if not delta.count:
        lost = [CONFIGURATIONS[key].label for key in (config, reference) if not comparison.sound(key)]
        if lost:
            return f"{subject}: no comparison, since {names(lost)} diverged."
        return f"{subject}: no comparison, since for no seed both runs trained."
    theirs = change(printed, config, reference)
    agrees = (
        "the same direction as in the paper"
        if (delta.mean < 0) == (theirs < 0)
        else "the opposite of the paper"
    )
    spread = ""
    if delta.count > 1:
        spread = (
            f" (mean of {delta.count} seeds, standard deviation of the difference {delta.deviation:.1f} %)"
        )
        if abs(delta.mean) < delta.deviation:
            agrees += ", but within one standard deviation of zero"
    return f"{subject}: {one} is **{direction(delta.mean)}** {other}{spread}, {agrees} ({direction(theirs)})."


def order_sentence(comparison, printed):
    """The order by perplexity, compared with the paper's order of the same configurations."""
    ours = [config for config in PAPER_CONFIGS if config in comparison.configs and comparison.sound(config)]
    if len(ours) < 2:
        return None
    ours.sort(key=lambda config: comparison.perplexity(config).mean)
    papers = sorted(ours, key=lambda config: printed[config])

    def chain(configs):
        return " < ".join(CONFIGURATIONS[config].label for config in configs)

    if ours == papers:
        return f"Order by perplexity: {chain(ours)}. This **is** the paper's order."
    return f"Order by perplexity: {chain(ours)}. This is **not** the paper's order, which is {chain(papers)}."


def other_sentence(comparison):
    """Configurations that the paper does not have, compared with the baseline."""
    others = [config for config in comparison.configs if config not in PAPER_CONFIGS]
    deltas = {config: comparison.delta(config) for config in others}
    told = [
        f"{CONFIGURATIONS[config].label} {direction(delta.mean)}"
        for config, delta in deltas.items()
        if delta.count
    ]
    if not told:
        return None
    return f"Past the paper, against {CONFIGURATIONS[BASELINE].label}: {names(told)}."


def findings(comparison, printed):
    """The findings, as sentences."""
    several = len(comparison.seeds) > 1

    def name(run):
        return run.label + (f" (seed {run.spec.seed})" if several else "")

    sentences = [
        f"**{name(run)} diverged**: its loss is no longer finite. Its entropies are those of its last "
        "checkpoint."
        for run in comparison.runs
        if run.diverged
    ]
    sentences += [
        f"{name(run)}: {run.losses_not_finite} logged training losses are not finite."
        for run in comparison.runs
        if run.losses_not_finite
    ]
    sentences += [
        f"{name(run)}: {run.nonfinite_rows} attention rows had scores that are not finite; they are left "
        "out of the entropies."
        for run in comparison.runs
        if run.nonfinite_rows
    ]
    sentences.append(order_sentence(comparison, printed))
    sentences += [pair_sentence(comparison, *pair, printed) for pair in PAIRS]
    sentences.append(other_sentence(comparison))
    return [sentence for sentence in sentences if sentence]


def change(table, config, reference):
    """By how many % one configuration's perplexity is above another's, in a table of the paper."""
    return 100 * ((100 + table[config][1]) / (100 + table[reference][1]) - 1)


def grid(request):
    return [request.spec(config) for config in request.configs]


def section(chapter):
    """The paper's main table and figure 2b; its figures 1, 2a and 4 are in the section on entropy."""
    if not chapter.fixed:
        return []
    comparison = Comparison(chapter.fixed)
    several = len(comparison.seeds) > 1
    return [
        chapter.title("Perplexity on held-out files"),
        perplexity_table([("", comparison, PAPER)]),
        seeds_sentence(comparison),
        bullets(findings(comparison, PAPER)),
        chapter.draw(draw_evaluation_loss, comparison, name="evaluation_loss", alt="Evaluation loss over training"),
        "The paper's figure 2b." + (" Lines: mean over the seeds; bands: their range." if several else ""),
    ]


def draw_evaluation_loss(figures, comparison):
    """Evaluation loss over training tokens; the axis is scaled to the values after the first fifth. With
    several seeds, the mean and the range."""
    figure, axis = figures.plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    most = max(run.tokens for run in comparison.runs)
    settled, ends, lost = [], {}, False
    for config in comparison.configs:
        runs = comparison.sound(config) or comparison.by_config[config]
        steps, losses = figures.by_seed(run.evaluations for run in runs)
        tokens, loss = runs[0].tokens_at(steps), losses.mean(axis=0)
        diverged = not comparison.sound(config)
        lost |= diverged
        axis.plot(
            tokens,
            loss,
            color=figures.COLORS[config],
            marker=figures.MARKERS[config],
            markersize=5,
            linewidth=1.8,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=figures.label(config) + (" (diverged)" if diverged else ""),
        )
        if len(runs) > 1:
            axis.fill_between(
                tokens, losses.min(axis=0), losses.max(axis=0), color=figures.COLORS[config], alpha=0.18, linewidth=0
            )
        settled.extend(losses[:, tokens > 0.2 * most].ravel())
        if np.isfinite(loss[-1]):
            ends[config] = loss[-1]
    label = figures.tokens_axis(axis, most)
    settled = [value for value in settled if np.isfinite(value)]
    if settled:
        low, high = min(settled), max(settled)
        margin = max(0.06 * (high - low), 0.01)
        axis.set_ylim(low - margin, high + margin)
        # Labels at the ends of lines, spread so that they do not overlap.
        gap, above = 0.055 * (high - low + 2 * margin), -np.inf
        for config, end in sorted(ends.items(), key=lambda item: item[1]):
            above = max(end, above + gap)
            axis.annotate(
                f"{figures.label(config)}  {end:.3f}",
                (most, end),
                (most * 1.035, above),
                annotation_clip=False,
                color=figures.COLORS[config],
                va="center",
                fontsize=9,
                fontweight="medium",
            )
    axis.set_xlabel(label)
    axis.set_ylabel("evaluation loss (nats per token)")
    axis.grid(zorder=0)
    if lost:
        axis.legend(frameon=False, loc="upper right")
    return figure
