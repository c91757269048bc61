"""How well the residual stream distinguishes tokens through the layers: their mean cosine and its effective
rank. The runs are those of the perplexity experiment."""

import math

import numpy as np

from comparison import Comparison, Estimate
from configurations import CONFIGURATIONS, SHAPES
from experiments.outliers import tables
from text import bullets, names, number_text

ORDER = 7

QUANTITIES = (
    ("cosine", "Mean cosine of two tokens after block", ".2f"),
    ("effective_rank", "Effective rank of the stream", ".1f"),
)
# The mean cosine from which the tokens of a sequence are called alike.
COLLAPSED = 0.9


def after_last_block(comparison, config, name):
    """An Estimate over the seeds whose runs did not diverge."""
    runs = [run for run in comparison.sound(config) if name in run.by_layer]
    return Estimate.of([float(run.by_layer[name][-1]) for run in runs])


def collapse_sentence(comparison):
    """In which configurations the tokens of a sequence have become alike."""
    cosines = {config: comparison.final(config, "cosine") for config in comparison.configs}
    cosines = {config: values.mean(axis=0) for config, values in cosines.items() if values is not None}
    cosines = {config: values for config, values in cosines.items() if np.isfinite(values).any()}
    if not cosines:
        return None
    found = [
        f"{CONFIGURATIONS[config].label} in {int((values >= COLLAPSED).sum())} of {len(values)} layers"
        for config, values in cosines.items()
        if (values >= COLLAPSED).any()
    ]
    if found:
        return f"Rank collapse, a mean cosine of {COLLAPSED} and more, **shows**: {names(found)}."
    config = max(cosines, key=lambda key: np.nanmax(cosines[key]))
    layer = int(np.nanargmax(cosines[config]))
    return (
        f"Rank collapse, a mean cosine of {COLLAPSED} and more, does **not** show. Tokens are most alike in "
        f"{CONFIGURATIONS[config].label}, after block {layer}: {number_text(cosines[config][layer])}."
    )


def last_block_sentence(comparison, width):
    """The state at the end of the stream, for each configuration."""
    parts = []
    for config in comparison.configs:
        cosine, rank = (after_last_block(comparison, config, name) for name, _, _ in QUANTITIES)
        if cosine.count and rank.count:
            parts.append(f"{CONFIGURATIONS[config].label} {cosine.text()} and {rank.text('.1f')}")
    return f"Mean cosine and effective rank (of {width}) after the last block: {'; '.join(parts)}." if parts else None


def activation_sentence(comparison):
    """What the activation changes without LayerNorm, on average over the layers."""
    found = {}
    for name, _, _ in QUANTITIES:
        for config in ("sm_g", "sm_r"):
            runs = [run for run in comparison.sound(config) if name in run.by_layer]
            found[name, config] = Estimate.of([float(run.by_layer[name].mean()) for run in runs])
    if not all(estimate.count for estimate in found.values()):
        return None

    def more(name):
        return CONFIGURATIONS[max(("sm_g", "sm_r"), key=lambda config: found[name, config].mean)].activation_name

    return (
        f"Without LayerNorm, on average over the layers, the mean cosine is {found['cosine', 'sm_g'].text()} with GELU and "
        f"{found['cosine', 'sm_r'].text()} with ReLU, the effective rank {found['effective_rank', 'sm_g'].text('.1f')} and "
        f"{found['effective_rank', 'sm_r'].text('.1f')}: tokens are more alike with {more('cosine')}, and the "
        f"stream uses more directions with {more('effective_rank')}."
    )


def section(chapter):
    """Cosines and effective rank by layer, if they were observed."""
    runs = [run for run in chapter.fixed if all(name in run.by_layer for name, _, _ in QUANTITIES)]
    if not runs:
        return []
    comparison = Comparison(runs)
    width = SHAPES[chapter.scale.shape].width
    several = len(comparison.seeds) > 1
    return [
        chapter.title("Signal propagation"),
        "How well the residual stream still distinguishes tokens after each block, at the end of training, on "
        "the held-out files. The mean cosine is over all pairs of tokens of a sequence: 1 if attention has "
        "made them all alike (rank collapse, Dong et al. 2021). The effective rank, exp of the entropy of the "
        "spectrum of xᵀx, is the number of directions that the stream uses: 1 to its width, {width} (Roy and "
        "Vetterli 2007).",
        chapter.draw(
            draw_layers, comparison, width, name="signal_propagation", alt="Mean cosine and effective rank by layer"
        ),
        "Mean over the seeds; bands: their range." if several else "",
        bullets([collapse_sentence(comparison), activation_sentence(comparison), last_block_sentence(comparison, width)]),
        *tables(comparison, QUANTITIES),
    ]


def draw_layers(figures, comparison, width):
    """Two panels over the blocks: mean cosine, effective rank; a line for each configuration, a band over seeds."""
    figure, axes = figures.plt.subplots(1, 2, figsize=(9.2, 3.9), layout="constrained")
    ends = (
        ("cosine", "mean cosine of two tokens", 1.0, "all tokens alike"),
        ("effective_rank", "effective rank of the stream", float(width), f"width, {width}"),
    )
    blocks = np.arange(comparison.layers)
    for axis, (name, title, most, limit) in zip(axes, ends):
        low = 0.0
        for config in comparison.configs:
            values = comparison.final(config, name)
            if np.isfinite(values).any():
                low = min(low, float(np.nanmin(values)))
            axis.plot(
                blocks,
                values.mean(axis=0),
                color=figures.COLORS[config],
                marker=figures.MARKERS[config],
                markersize=5,
                linewidth=1.8,
                markeredgecolor="white",
                markeredgewidth=0.6,
                label=figures.label(config),
                zorder=3,
            )
            if len(values) > 1:
                axis.fill_between(
                    blocks, values.min(axis=0), values.max(axis=0), color=figures.COLORS[config], alpha=0.18, linewidth=0
                )
        axis.axhline(most, color="#999999", linewidth=0.9, linestyle=(0, (4, 3)))
        axis.annotate(
            limit,
            (0.98, most),
            (0, 2),
            va="bottom",
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="#666666",
        )
        axis.set_ylim(math.floor(10 * low) / 10 if low < 0 else 0, 1.12 * most)
        axis.set_xticks(blocks)
        axis.set_xlabel("after block")
        axis.set_ylabel(title)
        axis.grid(axis="y", zorder=0)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=min(4, len(labels)), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure
