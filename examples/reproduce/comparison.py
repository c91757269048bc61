"""Comparisons of runs that differ only in configuration and seed."""

import math
from dataclasses import dataclass

import numpy as np

from configurations import BASELINE, CONFIGURATIONS
from files import ReproduceError
from text import number_text


@dataclass(frozen=True)
class Estimate:
    """Mean and sample standard deviation (ddof 1) over seeds; the latter NaN for fewer than two."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values):
        """An Estimate from the finite ones among `values`."""
        values = [value for value in values if math.isfinite(value)]
        return cls(
            float(np.mean(values)) if values else math.nan,
            float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
            len(values),
        )

    def text(self, form=".2f", missing="–"):
        """As "28.96 ± 0.26"; a single value has no deviation."""
        spread = f" ± {self.deviation:{form.lstrip('+')}}" if math.isfinite(self.deviation) else ""
        return number_text(self.mean, form, missing) + spread


def paired_percent(runs, references, value=lambda run: run.perplexity):
    """By how many % runs are above the references of the same seed in `value`: an Estimate over the seeds."""
    other = {run.spec.seed: value(run) for run in references}
    return Estimate.of([100 * (value(run) / other[run.spec.seed] - 1) for run in runs if run.spec.seed in other])


def largest_possible_entropy(context):
    """Mean entropy of uniform causal attention: query i of 1..T has at most ln i."""
    return sum(math.log(i) for i in range(1, context + 1)) / context


class Comparison:
    """The runs of one shape, context, recipe and learning rate, by configuration and seed."""

    def __init__(self, runs):
        self.runs = runs
        order = [key for key in CONFIGURATIONS if any(run.config == key for run in runs)]
        self.by_config = {config: [run for run in runs if run.config == config] for config in order}
        self.seeds = sorted({run.spec.seed for run in runs})
        if len({run.head_entropy.shape for run in runs}) > 1:
            raise ReproduceError(
                f"the runs of {runs[0].spec.shape} at context {runs[0].spec.context} differ in layers or "
                "heads, so they cannot be compared."
            )
        self.layers, self.heads = runs[0].head_entropy.shape
        self.largest_possible = largest_possible_entropy(runs[0].spec.context)
        stacked = np.stack([run.head_entropy for run in runs])
        self.largest = float(np.nanmax(stacked)) if np.isfinite(stacked).any() else math.nan
        # Layer 0 attends broadly in every configuration.
        self.early = range(1, max(2, self.layers // 2 + 1)) if self.layers > 1 else range(1)

    @property
    def configs(self):
        return list(self.by_config)

    def sound(self, config):
        """The runs of a configuration without those that diverged."""
        return [run for run in self.by_config.get(config, []) if not run.diverged]

    def shown(self):
        """One run of each configuration, that of the first seed, for figures of single runs."""
        return [runs[0] for runs in self.by_config.values()]

    def perplexity(self, config):
        return Estimate.of([run.perplexity for run in self.sound(config)])

    def delta(self, config, reference=BASELINE):
        """By how many % the perplexity is above another configuration's, paired by seed."""
        return paired_percent(self.sound(config), self.sound(reference))

    def quarters(self, config):
        """Shares of the finite heads in the four quarters of the largest head entropy of all runs (the last
        is closed), an Estimate each."""
        shares = [self._quarters(run) for run in self.by_config[config]]
        return [Estimate.of([share[quarter] for share in shares]) for quarter in range(4)]

    def _quarters(self, run):
        finite = run.head_entropy[np.isfinite(run.head_entropy)]
        if not finite.size or not self.largest > 0:
            return [math.nan] * 4
        index = np.minimum((4 * finite / self.largest).astype(int), 3)
        return (np.bincount(index, minlength=4) / finite.size).tolist()

    def layer_entropy(self, config):
        """The mean of each layer over heads and seeds."""
        return np.mean([run.head_entropy.mean(axis=1) for run in self.by_config[config]], axis=0)

    def final(self, config, name):
        """The final values (runs, layers) of the runs that observed `name`; None if none did."""
        found = [run.by_layer[name] for run in self.by_config[config] if name in run.by_layer]
        return np.stack(found) if found else None

    def early_entropy(self, config):
        """Mean over the heads of the early layers."""
        return Estimate.of([float(run.head_entropy[list(self.early)].mean()) for run in self.sound(config)])
