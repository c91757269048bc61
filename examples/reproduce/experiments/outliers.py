"""The residual stream and the hidden layer by layer: size, outliers, zeros. The runs are those of the perplexity
experiment."""

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


def final(comparison, config, name):
    """(layers,) mean over the seeds that logged it, None if none did."""
    found = [run.stream[name] for run in comparison.by_config[config] if name in run.stream]
    return np.mean(found, axis=0) if found else None


def tables(comparison):
    """A table for each quantity that some configuration logged."""
    texts = []
    for name, title, form in QUANTITIES:
        rows = []
        for config in comparison.configs:
            values = final(comparison, config, name)
            if values is not None:
                values = 100 * values if name == "zeros" else values
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
            values = final(comparison, config, name)
            if values is not None and np.isfinite(values).any():
                best[config] = values
        if best:
            config = max(best, key=lambda key: np.nanmax(best[key]))
            layer = int(np.nanargmax(best[config]))
            value = best[config][layer]
            text = f"{100 * value:.0f} % zeros" if name == "zeros" else f"a kurtosis of {value:.1f}"
            sentences.append(f"{what}: {text} in layer {layer} of {CONFIGURATIONS[config].label}.")
    return sentences


def section(chapter):
    """What flows through the residual stream and the hidden layer, where it was logged."""
    if not any(run.stream for run in chapter.fixed):
        return []
    comparison = Comparison(chapter.fixed)
    return [
        chapter.title("Residual stream and hidden layer"),
        "At the end of training, on the held-out files where the evaluation measured it. Kurtosis of the "
        "channels' RMS, mean s⁴ / (mean s²)² over the channels (He et al. 2024): 1 when all channels are "
        "equally strong, the width when one is alone.",
        *tables(comparison),
        bullets(findings(comparison)),
    ]
