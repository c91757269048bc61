"""The figures of a report, in the manner of the paper's figures 1 to 5, as PNG files.

A value that is not finite leaves a gap or a grey cell, never an error. Of several seeds, heatmaps show the
first; everything else shows the mean over seeds, with a band or whiskers where they fit.
"""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from experiments import CONFIGURATIONS
from slopes import START, scope_of

# Blue with LayerNorm, orange-red without; dark GELU, light ReLU. The same in every figure.
COLORS = {"sm_ln_g": "#1f4e79", "sm_ln_r": "#5fa8d3", "sm_g": "#b7371c", "sm_r": "#e2862a"}
MARKERS = {"sm_ln_g": "o", "sm_ln_r": "s", "sm_g": "^", "sm_r": "D"}
_OTHERS = [config for config in CONFIGURATIONS if config not in COLORS]
COLORS |= {config: to_hex(hsv_to_rgb((i / len(_OTHERS), 0.55, 0.8))) for i, config in enumerate(_OTHERS)}
MARKERS |= {config: "oPvXsd^"[index % 7] for index, config in enumerate(_OTHERS)}
DPI = 150

matplotlib.rcParams.update(
    {
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
        "axes.axisbelow": True,
        "axes.edgecolor": "#555555",
        "axes.labelcolor": "#222222",
        "axes.linewidth": 1.25,
        "xtick.color": "#555555",
        "ytick.color": "#555555",
        "xtick.labelcolor": "#222222",
        "ytick.labelcolor": "#222222",
        "xtick.major.width": 1.25,
        "ytick.major.width": 1.25,
        "text.color": "#222222",
        "lines.solid_capstyle": "round",
        "patch.edgecolor": "white",
        "patch.force_edgecolor": True,
        "grid.color": "#e6e6e6",
        "grid.linewidth": 1.0,
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


def _label(config):
    return CONFIGURATIONS[config].label


def _by_seed(series):
    """[[(step, array), ...] of each run] as (steps that all have, values (runs, steps, ...))."""
    tables = [dict(run) for run in series]
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    return np.array(steps), np.array([[table[step] for step in steps] for table in tables])


def _layer_colors(layers):
    """A colour for each layer, from the early, dark ones on."""
    return plt.cm.viridis(np.linspace(0, 1, layers + 2)[1:-1])


def _layer_bar(figure, axes, layers, colors):
    """A colour bar that says which line is which layer."""
    norm = matplotlib.colors.BoundaryNorm(np.arange(layers + 1) - 0.5, layers)
    scale = plt.cm.ScalarMappable(norm, matplotlib.colors.ListedColormap(colors))
    bar = figure.colorbar(
        scale, ax=axes.ravel().tolist(), ticks=range(layers), pad=0.02, fraction=0.05, aspect=28
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", length=0)
    bar.ax.invert_yaxis()
    bar.set_label("layer")


def heatmaps(comparison, path):
    """Entropy of every head (rows: layers, columns: heads), all on one colour scale from 0 to the causal
    maximum; of several seeds the first."""
    runs, largest = comparison.shown(), comparison.largest_possible
    layers, heads = comparison.layers, comparison.heads
    annotate = layers * heads <= 64
    cell = 0.5 if annotate else 0.26
    columns = min(4, len(runs))
    rows = -(-len(runs) // columns)
    figure, axes = plt.subplots(
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
    scale = plt.cm.ScalarMappable(plt.Normalize(0, largest), "viridis")
    bar = figure.colorbar(scale, ax=axes.ravel().tolist(), pad=0.02, fraction=0.06, aspect=22 * rows)
    bar.outline.set_visible(False)
    ticks = [tick for tick in range(int(largest) + 1) if largest - tick > 0.25]
    bar.set_ticks([*ticks, largest], labels=[*map(str, ticks), f"{largest:.2f}"])
    bar.set_label(f"attention entropy (nats; {largest:.2f}: uniform)")
    _save(figure, path)


def quarters(comparison, path):
    """Grouped bars: share of heads in each quarter of the largest head entropy, whiskers over seeds."""
    figure, axis = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
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
            color=COLORS[config],
            label=_label(config),
            zorder=2,
        )
        axis.bar_label(bars, fmt="%.0f", fontsize=8 if len(configs) <= 5 else 6, padding=2, color="#444444")
    axis.set_xticks(range(4), ["0 – ¼", "¼ – ½", "½ – ¾", "¾ – 1"])
    axis.set_xlabel("head entropy, as a part of the largest one (E$_{max}$)")
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
    _save(figure, path)


def evaluation_loss(comparison, path):
    """Evaluation loss over training tokens, the values after the first fifth filling the height; of several
    seeds the mean and the range."""
    figure, axis = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    most = max(run.tokens for run in comparison.runs)
    settled, ends, lost = [], {}, False
    for config in comparison.configs:
        runs = comparison.sound(config) or comparison.by_config[config]
        steps, losses = _by_seed(run.evaluations for run in runs)
        tokens, loss = runs[0].tokens_at(steps), losses.mean(axis=0)
        diverged = not comparison.sound(config)
        lost |= diverged
        axis.plot(
            tokens,
            loss,
            color=COLORS[config],
            marker=MARKERS[config],
            markersize=5,
            linewidth=1.8,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=_label(config) + (" (diverged)" if diverged else ""),
        )
        if len(runs) > 1:
            axis.fill_between(
                tokens, losses.min(axis=0), losses.max(axis=0), color=COLORS[config], alpha=0.18, linewidth=0
            )
        settled.extend(losses[:, tokens > 0.2 * most].ravel())
        if np.isfinite(loss[-1]):
            ends[config] = loss[-1]
    label = _tokens_axis(axis, most)
    settled = [value for value in settled if np.isfinite(value)]
    if settled:
        low, high = min(settled), max(settled)
        margin = max(0.06 * (high - low), 0.01)
        axis.set_ylim(low - margin, high + margin)
        # Direct labels, spread so that lines that end close together stay readable.
        gap, above = 0.055 * (high - low + 2 * margin), -np.inf
        for config, end in sorted(ends.items(), key=lambda item: item[1]):
            above = max(end, above + gap)
            axis.annotate(
                f"{_label(config)}  {end:.3f}",
                (most, end),
                (most * 1.035, above),
                annotation_clip=False,
                color=COLORS[config],
                va="center",
                fontsize=9,
                fontweight="medium",
            )
    axis.set_xlabel(label)
    axis.set_ylabel("evaluation loss (nats per token)")
    axis.grid(zorder=0)
    if lost:
        axis.legend(frameon=False, loc="upper right")
    _save(figure, path)


def layer_entropy(panels, largest_possible, path):
    """Mean head entropy of every layer over training tokens: one panel for each (title, runs of all seeds),
    axes shared, one line per layer."""
    columns = min(2 if len(panels) <= 4 else 4, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(1.2 + 3.7 * columns, 0.9 + 2.5 * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    layers = panels[0][1][0].head_entropy.shape[0]
    colors = _layer_colors(layers)
    most = max(run.tokens for _, runs in panels for run in runs)
    for axis, (title, runs) in zip(axes.flat, panels):
        logged = [run.entropies for run in runs if run.entropies]
        if logged:
            steps, entropies = _by_seed(logged)
            means = entropies.mean(axis=(0, 3))
            for layer in range(layers):
                axis.plot(runs[0].tokens_at(steps), means[:, layer], color=colors[layer], linewidth=1.5)
        axis.axhline(largest_possible, color="#999999", linewidth=0.9, linestyle=(0, (4, 3)))
        axis.set_title(title)
        axis.grid(zorder=0)
        label = _tokens_axis(axis, most)
    axes[0][0].set_ylim(0, largest_possible * 1.12)
    axes[0][0].yaxis.set_major_locator(MultipleLocator(1))
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
        axes[-2][-1].xaxis.set_tick_params(labelbottom=True)
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
    _layer_bar(figure, axes, layers, colors)
    _save(figure, path)


def slopes(groups, path):
    """Slopes over training tokens, one panel for each slopes.SlopeRuns, decayed beside not decayed; one line
    per layer, or one for all with the range over seeds."""
    rows = {config: index for index, config in enumerate(dict.fromkeys(group.config for group in groups))}
    columns = {
        decayed: index for index, decayed in enumerate(dict.fromkeys(group.decayed for group in groups))
    }
    figure, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(1.4 + 3.9 * len(columns), 0.9 + 2.6 * len(rows)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    layerwise = scope_of(groups[0].config) == "layerwise"
    layers = len(groups[0].final())
    colors = _layer_colors(layers) if layerwise else None
    most = max(run.tokens for group in groups for run in group.runs)
    for axis in axes.flat:
        axis.set_visible(False)
    for group in groups:
        axis = axes[rows[group.config]][columns[group.decayed]]
        axis.set_visible(True)
        steps, values = _by_seed(run.slopes for run in group.runs)
        tokens = group.runs[0].tokens_at(steps)
        for layer in range(layers):
            color = colors[layer] if layerwise else COLORS[group.config]
            axis.plot(tokens, values[:, :, layer].mean(axis=0), color=color, linewidth=1.5)
            if not layerwise and len(group.runs) > 1:
                low, high = values[:, :, layer].min(axis=0), values[:, :, layer].max(axis=0)
                axis.fill_between(tokens, low, high, color=color, alpha=0.2, linewidth=0)
        axis.axhline(0, color="#555555", linewidth=0.9)
        axis.axhline(START, color="#999999", linewidth=0.9, linestyle=(0, (4, 3)))
        axis.set_title(group.label)
        axis.grid(zorder=0)
        label = _tokens_axis(axis, most)
    figure.supxlabel(label, fontsize=10)
    figure.supylabel(f"negative slope (dashed: where it starts, {START})", fontsize=10)
    if layerwise:
        _layer_bar(figure, axes, layers, colors)
    _save(figure, path)
