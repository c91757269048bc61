"""Which configurations still train at multiples of the learning rate.

A run's gain is how far its evaluation loss is below that of the model that knows only the token frequencies
(the unigram loss). A run still trains if it keeps at least KEPT of the gain of its own configuration and seed
at the plain rate: at the demo's scale that gain is 3.2 nats, and final losses of good runs differ between
seeds by at most 0.03 and between the four configurations by at most 0.1. Below HALF, or with heads of its
deeper layers at no entropy, it has collapsed; in between it is damaged. If the plain run itself failed, the
best plain run of the seed replaces it; if none of them is better than the unigram loss, nothing can be
judged.
"""

import math

import numpy as np

from configurations import CONFIGURATIONS
from text import bullets, names, table

ORDER = 5
HELP = "the four at 1, 2 and 4 times the learning rate"

RATE_FACTORS = (1, 2, 4)

KEPT = 0.9
HALF = 0.5
# Nats: heads that attend to a single token.
NO_ENTROPY = 0.05
VERDICTS = ("trains", "damaged", "collapsed", "diverged", "not judged")


def deep_entropy(run):
    """The smallest mean entropy among the deeper half of the layers."""
    means = run.head_entropy.mean(axis=1)
    return float(np.nanmin(means[len(means) // 2 :])) if np.isfinite(means).any() else math.nan


def is_sound(run, unigram):
    """Whether a run has learned more than token frequencies, in all its layers."""
    return not run.diverged and run.eval_loss < unigram and not deep_entropy(run) <= NO_ENTROPY


def verdict(run, plain, unigram):
    """One of VERDICTS; `plain` is the loss of the run to compare with, NaN without one."""
    if run.diverged:
        return "diverged"
    if not math.isfinite(plain):
        return "not judged"
    kept = (unigram - run.eval_loss) / (unigram - plain)
    if not is_sound(run, unigram) or kept < HALF:
        return "collapsed"
    return "damaged" if kept < KEPT else "trains"


class Stability:
    """Verdicts on runs at several learning rates; `unigram` is the unigram loss in nats."""

    def __init__(self, runs, unigram):
        self.unigram = unigram
        self.configs = [key for key in CONFIGURATIONS if any(run.config == key for run in runs)]
        self.factors = sorted({run.spec.rate_factor for run in runs})
        plain = {
            (run.config, run.spec.seed): run.eval_loss
            for run in runs
            if run.spec.rate_factor == 1 and is_sound(run, unigram)
        }

        def reference(run):
            of_seed = [loss for (_, seed), loss in plain.items() if seed == run.spec.seed]
            return plain.get((run.config, run.spec.seed), min(of_seed, default=math.nan))

        self.cells = {}
        for run in runs:
            cell = self.cells.setdefault((run.config, run.spec.rate_factor), [])
            cell.append((verdict(run, reference(run), unigram), run))

    def trains(self, config, factor):
        """Whether all seeds still train, None without a run or a verdict."""
        cell = self.cells.get((config, factor))
        if cell is None or any(found == "not judged" for found, _ in cell):
            return None
        return all(found == "trains" for found, _ in cell)

    def _cell(self, config, factor):
        cell = self.cells.get((config, factor), [])
        if not cell:
            return "–"
        counts = {name: sum(found == name for found, _ in cell) for name in VERDICTS}
        sound = [run.perplexity for found, run in cell if found == "trains"]
        rest = [run.eval_loss for found, run in cell if found in ("damaged", "collapsed", "not judged")]
        words = [
            (f"{count} of {len(cell)} " if count < len(cell) else "") + name
            for name, count in counts.items()
            if count
        ]
        numbers = [f"{np.mean(sound):.2f}"] if sound else []
        numbers += [f"loss {np.mean(rest):.2f}"] if rest else []
        return ", ".join(words) + (f" ({', '.join(numbers)})" if numbers else "")

    def table(self):
        rows = [
            [CONFIGURATIONS[config].label, *(self._cell(config, factor) for factor in self.factors)]
            for config in self.configs
        ]
        return table(
            ["Verdict (Eval PPL if it trains)", *(f"{factor} x learning rate" for factor in self.factors)],
            rows,
        )

    def findings(self):
        sentences = [
            f"The unigram loss is {self.unigram:.3f} nats. A run *trains* if it keeps at least "
            f"{100 * KEPT:.0f} % of what its own configuration gains over it at the plain rate, with the "
            f"same seed; it has *collapsed* if it keeps less than {100 * HALF:.0f} %, or if a layer in the "
            f"deeper half has heads without entropy (below {NO_ENTROPY} nats); in between it is *damaged*."
        ]
        for factor in self.factors:
            ask = {config: self.trains(config, factor) for config in self.configs}
            good = [CONFIGURATIONS[config].label for config, answer in ask.items() if answer]
            bad = [CONFIGURATIONS[config].label for config, answer in ask.items() if answer is False]
            if not good and not bad:
                text = "nothing can be judged: no run at the plain rate is better than the unigram loss"
            elif not good:
                text = "none of them still trains with every seed"
            elif not bad:
                text = "all of them still train"
            else:
                text = f"{names(good)} still train{'s' if len(good) == 1 else ''}; {names(bad)} " + (
                    "does not" if len(bad) == 1 else "do not"
                )
            sentences.append(f"At {factor} x the learning rate {text}.")
        return sentences


def grid(request):
    return [
        request.spec(config, rate_factor=factor) for factor in RATE_FACTORS for config in request.configs
    ]


def section(chapter):
    """Results at multiples of the learning rate, of the configurations that were tried at any."""
    runs = [run for run in chapter.plain if run.spec.rate_factor in RATE_FACTORS]
    tried = {(run.config, run.spec.decay_slopes) for run in runs if run.spec.rate_factor != 1}
    runs = [run for run in runs if (run.config, run.spec.decay_slopes) in tried]
    if not runs:
        return []
    judged = Stability(runs, chapter.unigram)
    return [chapter.title("Stability at higher learning rates"), judged.table(), bullets(judged.findings())]
