"""Entropies of attention heads: which heads are near uniform, and in which layers, compared with the paper.
The runs are those of the perplexity experiment."""

import math

import numpy as np

from comparison import Comparison
from configurations import CONFIGURATIONS
from text import bullets, number_text, table

ORDER = 2

# The paper's figure 2a: % of heads by quarter of the largest head entropy, GPT-2.
PAPER_QUARTERS = {
    "sm_ln_g": (4, 14, 74, 8),
    "sm_ln_r": (6, 16, 74, 3),
    "sm_g": (1, 18, 23, 58),
    "sm_r": (3, 20, 53, 24),
}
# Mean entropies of early layers that differ by less (nats) are called equal; where overload showed, the
# difference was 0.3 to 0.8.
CLEAR_DIFFERENCE = 0.1
QUARTERS = ("0 – ¼", "¼ – ½", "½ – ¾", "¾ – 1")


def quarters_table(comparison):
    def share(estimate):
        if not estimate.count:
            return "n/a"
        spread = f" ± {100 * estimate.deviation:.0f}" if estimate.count > 1 else ""
        return f"{100 * estimate.mean:.0f}{spread} %"

    rows = []
    for config in comparison.configs:
        printed = PAPER_QUARTERS.get(config)
        row = [CONFIGURATIONS[config].label]
        for quarter, estimate in enumerate(comparison.quarters(config)):
            row += [share(estimate), f"{printed[quarter]} %" if printed else "–"]
        rows.append(row)
    return table(["Share of heads", *(cell for name in QUARTERS for cell in (name, "paper"))], rows)


def layer_table(comparison):
    """Mean entropy of each layer's heads, over the seeds."""
    rows = [
        [CONFIGURATIONS[config].label, *(number_text(mean) for mean in comparison.layer_entropy(config))]
        for config in comparison.configs
    ]
    return table(["Mean entropy (nats), layer", *map(str, range(comparison.layers))], rows)


def largest_sentence(comparison):
    run = next(run for run in comparison.runs if (run.head_entropy == comparison.largest).any())
    layer, head = np.argwhere(run.head_entropy == comparison.largest)[0]
    seed = f", seed {run.spec.seed}" if len(comparison.seeds) > 1 else ""
    return (
        f"The largest head entropy, E_max, is {comparison.largest:.2f} nats ({run.label}{seed}, layer "
        f"{layer}, head {head}); uniform causal attention would give {comparison.largest_possible:.2f}."
    )


def top_quarter_sentence(comparison):
    """Which configuration has most heads in the top quarter; None with fewer than two configurations of the
    paper."""
    top = {
        config: comparison.quarters(config)[3].mean
        for config in comparison.configs
        if config in PAPER_QUARTERS and comparison.sound(config)
    }
    top = {config: share for config, share in top.items() if math.isfinite(share)}
    if len(top) < 2:
        return None
    most = max(top.values())
    leaders = [config for config in top if top[config] == most]
    papers = max(top, key=lambda config: PAPER_QUARTERS[config][3])
    label = ", ".join(CONFIGURATIONS[config].label for config in leaders)
    verdict = (
        "as in the paper" if leaders == [papers] else f"in the paper it is {CONFIGURATIONS[papers].label}"
    )
    return f"Most heads in the top quarter: {label} with {100 * most:.0f} %; {verdict}."


def overload_sentence(comparison):
    """Whether norm-free GELU keeps its early heads near uniform where ReLU does not."""
    if not (comparison.sound("sm_g") and comparison.sound("sm_r")):
        return None
    gelu, relu = comparison.early_entropy("sm_g"), comparison.early_entropy("sm_r")
    if not (gelu.count and relu.count):
        return "Early layers without LayerNorm: no comparison, since some of their entropies are not finite."
    first, last = comparison.early[0], comparison.early[-1]
    layers = f"layers {first} to {last}" if first != last else f"layer {first}"
    difference = gelu.mean - relu.mean
    if difference >= CLEAR_DIFFERENCE:
        verdict = "The paper's entropic overload with GELU **shows**"
    elif difference > -CLEAR_DIFFERENCE:
        verdict = "The paper's entropic overload with GELU does **not** show"
    else:
        verdict = "This is the **opposite** of the paper's entropic overload with GELU"
    return (
        f"Early layers ({layers}) without LayerNorm: {gelu.text()} nats on average with GELU, {relu.text()} "
        f"with ReLU. {verdict}."
    )


def findings(comparison):
    if not math.isfinite(comparison.largest):
        return ["No head has a finite entropy, so there is nothing to compare."]
    lost = [CONFIGURATIONS[config].label for config in comparison.configs if not comparison.sound(config)]
    return [
        largest_sentence(comparison),
        f"{' and '.join(lost)} diverged and {'is' if len(lost) == 1 else 'are'} left out below."
        if lost
        else None,
        top_quarter_sentence(comparison),
        overload_sentence(comparison),
    ]


def section(chapter):
    """The paper's figures 1, 2a and 4."""
    if not chapter.fixed:
        return []
    comparison = Comparison(chapter.fixed)
    panels = [(CONFIGURATIONS[config].label, comparison.by_config[config]) for config in comparison.configs]
    several = len(comparison.seeds) > 1
    return [
        chapter.title("Attention entropy"),
        chapter.draw(draw_heatmaps, comparison, name="entropy_heatmaps", alt="Entropy of every head"),
        "The paper's figure 1." + (f" Seed {comparison.seeds[0]} is shown." if several else ""),
        bullets(findings(comparison)),
        quarters_table(comparison),
        "Quarters of E_max, the largest head entropy among all runs above; next to each share is the paper's "
        "(GPT-2, 144 heads).",
        chapter.draw(
            draw_quarters, comparison, name="entropy_quarters", alt="Heads by quarter of the largest entropy"
        ),
        "The paper's figure 2a." + (" Whiskers: standard deviation over the seeds." if several else ""),
        layer_table(comparison),
        chapter.draw(
            lambda figures: figures.layer_entropy(panels, comparison.largest_possible),
            name="layer_entropy",
            alt="Mean entropy per layer over training",
        ),
        "The paper's figure 4." + (" Mean over the seeds." if several else ""),
    ]


def draw_heatmaps(figures, comparison):
    """Entropy of every head (rows: layers, columns: heads), all on one color scale from 0 to the causal
    maximum; with several seeds, the first."""
    runs, largest = comparison.shown(), comparison.largest_possible
    layers, heads = comparison.layers, comparison.heads
    annotate = layers * heads <= 64
    cell = 0.5 if annotate else 0.26
    columns = min(4, len(runs))
    rows = -(-len(runs) // columns)
    figure, axes = figures.plt.subplots(
        rows,
        columns,
        figsize=((heads * cell + 0.5) * columns + 1.2, (layers * cell * 0.8 + 0.9) * rows + 0.3),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, run in zip(axes.flat, runs):
        entropy = np.ma.masked_invalid(run.head_entropy)
        axis.set_facecolor("#cfcfcf")
        axis.pcolormesh(entropy, vmin=0, vmax=largest, cmap="viridis", edgecolors="white", linewidth=0.6)
        for (row, column), value in np.ndenumerate(run.head_entropy):
            if not np.isfinite(value):
                text, color = "n/a", "#555555"
            elif annotate:
                text, color = f"{value:.2f}", "white" if value < 0.6 * largest else "#222222"
            else:
                continue
            axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=7.5, color=color)
        axis.set_xticks(np.arange(heads) + 0.5, range(heads))
        axis.set_yticks(np.arange(layers) + 0.5, range(layers))
        axis.invert_yaxis()
        axis.spines[:].set_visible(False)
        seed = f", seed {run.spec.seed}" if len(comparison.seeds) > 1 else ""
        axis.set_title(run.label + seed, pad=8)
        axis.set_xlabel("head")
        axis.tick_params(length=0, labelrotation=0)
    for axis in axes.flat[len(runs) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("layer")
    scale = figures.plt.cm.ScalarMappable(figures.plt.Normalize(0, largest), "viridis")
    bar = figure.colorbar(scale, ax=axes.ravel().tolist(), pad=0.02, fraction=0.06, aspect=22 * rows)
    bar.outline.set_visible(False)
    ticks = [tick for tick in range(int(largest) + 1) if largest - tick > 0.25]
    bar.set_ticks([*ticks, largest], labels=[*map(str, ticks), f"{largest:.2f}"])
    bar.set_label(f"attention entropy (nats; {largest:.2f}: uniform)")
    return figure


def draw_quarters(figures, comparison):
    """Grouped bars: share of heads in each quarter of the largest head entropy, whiskers over seeds."""
    figure, axis = figures.plt.subplots(figsize=(7.2, 3.8), layout="constrained")
    configs = comparison.configs
    width = 0.8 / len(configs)
    for index, config in enumerate(configs):
        shares = comparison.quarters(config)
        bars = axis.bar(
            np.arange(4) + (index - (len(configs) - 1) / 2) * width,
            [100 * share.mean for share in shares],
            width * 0.92,
            yerr=[100 * np.nan_to_num(share.deviation) for share in shares] if shares[0].count > 1 else None,
            error_kw={"ecolor": "#444444", "elinewidth": 1, "capsize": 2},
            color=figures.COLORS[config],
            label=figures.label(config),
            zorder=2,
        )
        axis.bar_label(bars, fmt="%.0f", fontsize=8 if len(configs) <= 5 else 6, padding=2, color="#444444")
    axis.set_xticks(range(4), ["0 – ¼", "¼ – ½", "½ – ¾", "¾ – 1"])
    axis.set_xlabel("head entropy, as a fraction of the largest one (E$_{max}$)")
    axis.set_ylabel("share of heads (%)")
    axis.grid(axis="y", zorder=0)
    axis.tick_params(axis="x", length=0)
    axis.legend(
        frameon=False,
        ncols=min(4, len(configs)),
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        handlelength=1.2,
        columnspacing=1.6,
    )
    return figure
