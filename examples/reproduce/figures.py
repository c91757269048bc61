"""The figures of a report as PNG files, in the style of the paper's figures 1 to 5.

A value that is not finite becomes a gap or a gray cell, never an error. With several seeds, heatmaps show the
first; everything else shows the mean over seeds, with a band or whiskers where they fit.
"""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from configurations import CONFIGURATIONS

# Blue with LayerNorm, orange-red without; dark GELU, light ReLU. The same in every figure.
COLORS = {"sm_ln_g": "#1f4e79", "sm_ln_r": "#5fa8d3", "sm_g": "#b7371c", "sm_r": "#e2862a"}
MARKERS = {"sm_ln_g": "o", "sm_ln_r": "s", "sm_g": "^", "sm_r": "D"}
# The mixtures, which are shown with the norm-free models, have separate colors.
COLORS |= {"sm_relu_gelu": "#3f7d4e", "sm_gelu_relu": "#8a5aa8", "sm_alternating": "#7a7a7a"}
MARKERS |= {"sm_relu_gelu": "v", "sm_gelu_relu": "P", "sm_alternating": "X"}
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


def save(figure, path):
    """Writes a figure as PNG."""
    figure.savefig(path, dpi=DPI, bbox_inches="tight", pad_inches=0.15)
    plt.close(figure)


def point(axis, x, estimate, color, filled=True, marker="o", horizontal=False):
    """Draws an Estimate as a point at `x`, or at the height `x` if it is horizontal, with its deviation as a
    bar; nothing if it has no value."""
    if not np.isfinite(estimate.mean):
        return
    deviation = estimate.deviation if np.isfinite(estimate.deviation) else 0
    value, place, error = ("x", "y", "xerr") if horizontal else ("y", "x", "yerr")
    axis.errorbar(
        **{value: estimate.mean, place: x, error: deviation},
        color=color,
        marker=marker,
        markersize=7,
        markerfacecolor=color if filled else "white",
        markeredgecolor=color,
        capsize=3,
        linewidth=1.5,
        zorder=3,
    )


def tokens_axis(axis, most):
    """Labels a horizontal axis of training tokens in thousands or millions."""
    unit, name = (1e6, "million") if most >= 1e6 else (1e3, "thousand")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: f"{tokens / unit:g}"))
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlim(0, most * 1.01)
    return f"training tokens ({name})"


def label(config):
    """The label of a configuration in a legend."""
    return CONFIGURATIONS[config].label


def by_seed(series):
    """[[(step, array), ...] of each run] as (steps that all have, values (runs, steps, ...))."""
    tables = [dict(run) for run in series]
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    return np.array(steps), np.array([[table[step] for step in steps] for table in tables])


def layer_colors(layers):
    """A color for each layer, dark for the early ones."""
    return plt.cm.viridis(np.linspace(0, 1, layers + 2)[1:-1])


def layer_bar(figure, axes, layers, colors):
    """A color bar for the lines' layers."""
    norm = matplotlib.colors.BoundaryNorm(np.arange(layers + 1) - 0.5, layers)
    scale = plt.cm.ScalarMappable(norm, matplotlib.colors.ListedColormap(colors))
    bar = figure.colorbar(
        scale, ax=axes.ravel().tolist(), ticks=range(layers), pad=0.02, fraction=0.05, aspect=28
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", length=0)
    bar.ax.invert_yaxis()
    bar.set_label("layer")


def layer_entropy(panels, largest_possible):
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
    colors = layer_colors(layers)
    most = max(run.tokens for _, runs in panels for run in runs)
    for axis, (title, runs) in zip(axes.flat, panels):
        logged = [run.entropies for run in runs if run.entropies]
        if logged:
            steps, entropies = by_seed(logged)
            means = entropies.mean(axis=(0, 3))
            for layer in range(layers):
                axis.plot(runs[0].tokens_at(steps), means[:, layer], color=colors[layer], linewidth=1.5)
        axis.axhline(largest_possible, color="#999999", linewidth=0.9, linestyle=(0, (4, 3)))
        axis.set_title(title)
        axis.grid(zorder=0)
        label = tokens_axis(axis, most)
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
    layer_bar(figure, axes, layers, colors)
    return figure
