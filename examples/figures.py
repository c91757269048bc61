"""The four figures of a report, in the manner of the paper's figures 1, 2a, 2b and 4, as PNG files.

Each function takes `runs` (report.Run, one to four of them) and writes one file. A value that is not finite
leaves a gap or a grey cell, never an error.
"""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

# Blue with LayerNorm, orange-red without; dark GELU, light ReLU. The same in every figure.
COLORS = {"sm_ln_g": "#1f4e79", "sm_ln_r": "#5fa8d3", "sm_g": "#b7371c", "sm_r": "#e2862a"}
MARKERS = {"sm_ln_g": "o", "sm_ln_r": "s", "sm_g": "^", "sm_r": "D"}
DPI = 150

sns.set_theme(
    style="ticks",
    context="notebook",
    rc={
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.labelsize": 10,
        "legend.fontsize": 9,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "axes.titleweight": "medium",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#555555",
        "xtick.color": "#555555",
        "ytick.color": "#555555",
        "xtick.labelcolor": "#222222",
        "ytick.labelcolor": "#222222",
        "grid.color": "#e6e6e6",
        "savefig.facecolor": "white",
    },
)


def _save(figure, path):
    figure.savefig(path, dpi=DPI, bbox_inches="tight", pad_inches=0.15)
    plt.close(figure)


def _tokens_axis(axis, most):
    """Labels a horizontal axis of training tokens in thousands or millions."""
    unit, name = (1e6, "million") if most >= 1e6 else (1e3, "thousand")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: f"{tokens / unit:g}"))
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlim(0, most * 1.01)
    return f"training tokens ({name})"


def heatmaps(runs, largest_possible, path):
    """Entropy of every head (rows: layers, columns: heads), all runs on one colour scale from 0 to the causal
    maximum."""
    layers, heads = runs[0].head_entropy.shape
    annotate = layers * heads <= 64
    cell = 0.5 if annotate else 0.26
    figure, axes = plt.subplots(
        1,
        len(runs),
        figsize=((heads * cell + 0.5) * len(runs) + 1.2, layers * cell * 0.8 + 1.2),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, run in zip(axes[0], runs):
        finite = np.isfinite(run.head_entropy)
        axis.set_facecolor("#cfcfcf")
        sns.heatmap(
            run.head_entropy,
            mask=~finite,
            vmin=0,
            vmax=largest_possible,
            cmap="viridis",
            cbar=False,
            ax=axis,
            annot=annotate,
            fmt=".2f",
            annot_kws={"size": 7.5},
            linewidths=0.6,
            linecolor="white",
            xticklabels=range(heads),
            yticklabels=range(layers),
        )
        for row, column in np.argwhere(~finite):
            axis.text(column + 0.5, row + 0.5, "n/a", ha="center", va="center", fontsize=7, color="#555555")
        axis.set_title(run.label, pad=8)
        axis.set_xlabel("head")
        axis.tick_params(length=0, labelrotation=0)
    axes[0][0].set_ylabel("layer")
    scale = plt.cm.ScalarMappable(plt.Normalize(0, largest_possible), "viridis")
    bar = figure.colorbar(scale, ax=axes[0].tolist(), pad=0.02, fraction=0.06, aspect=22)
    bar.outline.set_visible(False)
    ticks = [tick for tick in range(int(largest_possible) + 1) if largest_possible - tick > 0.25]
    bar.set_ticks([*ticks, largest_possible], labels=[*map(str, ticks), f"{largest_possible:.2f}"])
    bar.set_label(f"attention entropy (nats; {largest_possible:.2f}: uniform)")
    _save(figure, path)


def quarters(runs, shares, path):
    """Grouped bars: share of heads in each quarter of the largest head entropy; `shares[config]` are four
    fractions."""
    figure, axis = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
    width = 0.8 / len(runs)
    for index, run in enumerate(runs):
        positions = np.arange(4) + (index - (len(runs) - 1) / 2) * width
        bars = axis.bar(
            positions,
            100 * np.asarray(shares[run.config]),
            width * 0.92,
            color=COLORS[run.config],
            label=run.label,
            zorder=2,
        )
        axis.bar_label(bars, fmt="%.0f", fontsize=8, padding=2, color="#444444")
    axis.set_xticks(range(4), ["0 – ¼", "¼ – ½", "½ – ¾", "¾ – 1"])
    axis.set_xlabel("head entropy, as a part of the largest one (E$_{max}$)")
    axis.set_ylabel("share of heads (%)")
    axis.grid(axis="y", zorder=0)
    axis.tick_params(axis="x", length=0)
    axis.legend(
        frameon=False,
        ncols=len(runs),
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        handlelength=1.2,
        columnspacing=1.6,
    )
    _save(figure, path)


def evaluation_loss(runs, path):
    """Evaluation loss over training tokens, the values after the first tenth filling the height."""
    figure, axis = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    most = max(run.tokens for run in runs)
    settled, ends = [], []
    for run in runs:
        tokens = np.array([step for step, _ in run.evaluations]) * (run.tokens / run.steps)
        loss = np.array([value for _, value in run.evaluations])
        axis.plot(
            tokens,
            loss,
            color=COLORS[run.config],
            marker=MARKERS[run.config],
            markersize=5,
            linewidth=1.8,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=run.label + (" (diverged)" if run.diverged else ""),
        )
        settled.extend(loss[(tokens > 0.1 * most) & np.isfinite(loss)])
        if np.isfinite(run.eval_loss):
            ends.append(run)
    label = _tokens_axis(axis, most)
    if settled:
        low, high = min(settled), max(settled)
        margin = max(0.06 * (high - low), 0.01)
        axis.set_ylim(low - margin, high + margin)
        # Direct labels, spread so that lines that end close together stay readable.
        gap, above = 0.055 * (high - low + 2 * margin), -np.inf
        for run in sorted(ends, key=lambda run: run.eval_loss):
            above = max(run.eval_loss, above + gap)
            axis.annotate(
                f"{run.label}  {run.eval_loss:.3f}",
                (most, run.eval_loss),
                (most * 1.035, above),
                annotation_clip=False,
                color=COLORS[run.config],
                va="center",
                fontsize=9,
                fontweight="medium",
            )
    axis.set_xlabel(label)
    axis.set_ylabel("evaluation loss (nats per token)")
    axis.grid(zorder=0)
    if len(ends) < len(runs):
        axis.legend(frameon=False, loc="upper right")
    _save(figure, path)


def layer_entropy(runs, largest_possible, path):
    """Mean head entropy of every layer over training tokens: one panel per run, axes shared, one line per
    layer."""
    columns = min(2, len(runs))
    rows = -(-len(runs) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(1.2 + 3.7 * columns, 0.9 + 2.5 * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    layers = runs[0].head_entropy.shape[0]
    colors = sns.color_palette("viridis", layers)
    most = max(run.tokens for run in runs)
    for axis, run in zip(axes.flat, runs):
        if run.entropies:
            tokens = np.array([step for step, _ in run.entropies]) * (run.tokens / run.steps)
            means = np.array([entropy.mean(axis=1) for _, entropy in run.entropies])
            for layer in range(layers):
                axis.plot(tokens, means[:, layer], color=colors[layer], linewidth=1.5)
        axis.axhline(largest_possible, color="#999999", linewidth=0.9, linestyle=(0, (4, 3)))
        axis.set_title(run.label)
        axis.grid(zorder=0)
        label = _tokens_axis(axis, most)
    axes[0][0].set_ylim(0, largest_possible * 1.12)
    axes[0][0].yaxis.set_major_locator(MultipleLocator(1))
    for axis in axes.flat[len(runs) :]:
        axis.set_visible(False)
        axes[0][-1].xaxis.set_tick_params(labelbottom=True)
    figure.supxlabel(label, fontsize=10)
    figure.supylabel("mean entropy of a layer's heads (nats)", fontsize=10)
    axes[0][0].annotate(
        f"uniform attention, {largest_possible:.2f}",
        (0.98, largest_possible),
        (0, 2),
        va="bottom",
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color="#666666",
    )
    map_of_layers = matplotlib.colors.ListedColormap(colors)
    scale = plt.cm.ScalarMappable(
        matplotlib.colors.BoundaryNorm(np.arange(layers + 1) - 0.5, layers), map_of_layers
    )
    bar = figure.colorbar(
        scale, ax=axes.ravel().tolist(), ticks=range(layers), pad=0.02, fraction=0.05, aspect=28
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", length=0)
    bar.ax.invert_yaxis()
    bar.set_label("layer")
    _save(figure, path)
