"""The residual stream and the hidden layers, by layer: size, outliers, zeros. The runs are those of the
perplexity experiment."""

import numpy as np

from comparison import Comparison
from configurations import CONFIGURATIONS
from text import bullets, number_text, table

ORDER = 6

QUANTITIES = (
    ("rms", "RMS of the residual stream after block", ".2f"),
    ("kurtosis", "Kurtosis of its channels", ".1f"),
    ("zeros", "Zeros after the activation (%)", ".1f"),
)


def tables(comparison, quantities):
    """A table by layer for each (name, title, format) that some configuration logged, means over the seeds."""
    texts = []
    for name, title, form in quantities:
        rows = []
        for config in comparison.configs:
            values = comparison.final(config, name)
            if values is not None:
                values = values.mean(axis=0) * (100 if name == "zeros" else 1)
                rows.append([CONFIGURATIONS[config].label, *(number_text(value, form) for value in values)])
        if rows:
            texts.append(table([title, *map(str, range(len(rows[0]) - 1))], rows))
    return texts


def findings(comparison):
    """Which configuration has the strongest outlier channels, and the sparsest hidden layer."""
    sentences = []
    for name, what in (
        ("kurtosis", "The strongest outlier channels"),
        ("zeros", "The sparsest hidden layer"),
    ):
        best = {}
        for config in comparison.configs:
            values = comparison.final(config, name)
            if values is not None and np.isfinite(values.mean(axis=0)).any():
                best[config] = values.mean(axis=0)
        if best:
            config = max(best, key=lambda key: np.nanmax(best[key]))
            layer = int(np.nanargmax(best[config]))
            value = best[config][layer]
            text = f"{100 * value:.0f} % zeros" if name == "zeros" else f"a kurtosis of {value:.1f}"
            sentences.append(f"{what}: {text} in layer {layer} of {CONFIGURATIONS[config].label}.")
    return sentences


def section(chapter):
    """Statistics of the residual stream and the hidden layer, if they were logged."""
    if not any(name in run.by_layer for run in chapter.fixed for name, _, _ in QUANTITIES):
        return []
    comparison = Comparison(chapter.fixed)
    return [
        chapter.title("Residual stream and hidden layer"),
        "At the end of training, on the held-out files if the evaluation measured it. Kurtosis of the "
        "channels' RMS, mean s⁴ / (mean s²)² over the channels (He et al. 2024): 1 if all channels are "
        "equally strong, the width if one channel holds everything.",
        *tables(comparison, QUANTITIES),
        bullets(findings(comparison)),
    ]
