"""Each configuration at its own best learning rate.

The rate is chosen among multiples of the shape's with one seed, by the loss on the first half of the held-out
files, and tested on the second half. Rates are a factor of 2 apart. If the best of those tried is the largest
or the smallest, the next one is tried as well.
"""

import math
from dataclasses import replace

from comparison import Estimate, paired_percent
from configurations import BASELINE, CONFIGURATIONS, SHAPES
from text import conclusion, direction, number_text, table

ORDER = 20
HELP = "each of the four at its own best learning rate"
BEYOND = True
IN_HALVES = True

FIRST_FACTORS = (1, 2, 4)
LEAST, LARGEST = 1 / 16, 64
# The seed of the search, whichever seeds are compared.
SEED = 0


def search(loss_of):
    """(factors to try, the best of them or None while losses are missing). `loss_of(factor)` is infinite for
    a run that diverged, None for one that has not ended."""
    factors = list(FIRST_FACTORS)
    while True:
        losses = {factor: loss_of(factor) for factor in factors}
        if None in losses.values():
            return factors, None
        best = min(factors, key=losses.get)
        if best == factors[-1] and best < LARGEST:
            factors.append(2 * best)
        elif best == factors[0] and best > LEAST:
            factors.insert(0, best / 2)
        else:
            return factors, best if math.isfinite(losses[best]) else None


def grid(request):
    first = replace(request, seed=SEED)
    specs = []
    for config in request.configs:
        factors, best = search(lambda factor: request.selection_loss(first.spec(config, rate_factor=factor)))
        specs += [first.spec(config, rate_factor=factor) for factor in factors]
        specs += [request.spec(config, rate_factor=factor) for factor in (1, best) if factor is not None]
    return specs


class Tuning:
    """The runs at several rates that were evaluated in halves."""

    def __init__(self, runs):
        by_rate = {}
        for run in runs:
            if run.halves or run.diverged:
                by_rate.setdefault((run.config, run.spec.rate_factor), []).append(run)
        self.by_rate = by_rate
        self.configs, self.losses, self.best = [], {}, {}
        for config in CONFIGURATIONS:
            factors, best = search(lambda factor: self.first_half(config, factor))
            losses = {factor: self.first_half(config, factor) for factor in factors}
            if best is not None:
                self.configs.append(config)
                self.losses[config], self.best[config] = losses, best

    def first_half(self, config, factor):
        """Request.selection_loss for the seed of the search."""
        for run in self.by_rate.get((config, factor), []):
            if run.spec.seed == SEED:
                return math.inf if run.diverged else run.halves[0]
        return None

    def runs(self, config, own):
        """The runs that did not diverge at the configuration's own rate, or at the plain one."""
        return [run for run in self.by_rate.get((config, self.best[config] if own else 1), []) if not run.diverged]

    def delta(self, config, reference, own):
        """By how many % the perplexity on the second half is above another configuration's."""
        if reference not in self.best:
            return Estimate.of([])
        return paired_percent(self.runs(config, own), self.runs(reference, own), second_half)

    def margin(self, config):
        """By how many % the next best rate is above the best one, on the first half."""
        losses = sorted(self.losses[config].values())
        return 100 * (math.exp(losses[1] - losses[0]) - 1)


def second_half(run):
    """Perplexity on the second half of the held-out files."""
    return math.exp(run.halves[1])


def rate_text(factor):
    return f"{factor:g} x"


def search_table(tuning):
    factors = sorted({factor for losses in tuning.losses.values() for factor in losses})
    rows = []
    for config in tuning.configs:
        losses = tuning.losses[config]
        cells = [
            "–" if factor not in losses else number_text(math.exp(losses[factor]), missing="diverged")
            for factor in factors
        ]
        place = factors.index(tuning.best[config])
        cells[place] = f"**{cells[place]}**"
        rows.append([CONFIGURATIONS[config].label, *cells])
    return table([f"PPL on the first half, seed {SEED}", *map(rate_text, factors)], rows)


def comparison_table(tuning):
    rows = []
    for config in tuning.configs:
        plain, own = (tuning.runs(config, which) for which in (False, True))
        rows.append(
            [
                CONFIGURATIONS[config].label,
                rate_text(tuning.best[config]),
                Estimate.of(map(second_half, plain)).text(),
                f"**{Estimate.of(map(second_half, own)).text()}**",
                paired_percent(own, plain, second_half).text("+.2f"),
                *(
                    "0" if config == BASELINE else tuning.delta(config, BASELINE, which).text("+.2f")
                    for which in (False, True)
                ),
            ]
        )
    against = f"to {CONFIGURATIONS[BASELINE].label} (%)"
    header = ["PPL on the second half", "own rate", "plain rate", "own rate", "own to plain (%)"]
    return table([*header, f"plain, {against}", f"own, {against}"], rows)


def found_sentence(tuning):
    """The order at the configurations' own rates, and the paper's two comparisons there."""
    own = {config: Estimate.of(map(second_half, tuning.runs(config, True))).mean for config in tuning.configs}
    order = " < ".join(CONFIGURATIONS[config].label for config in sorted(own, key=own.get))
    parts = []
    for config, reference in (("sm_r", "sm_ln_g"), ("sm_r", "sm_g")):
        if {config, reference} <= set(own):
            deltas = [tuning.delta(config, reference, which) for which in (True, False)]
            if all(delta.count for delta in deltas):
                one, other = CONFIGURATIONS[config].label, CONFIGURATIONS[reference].label
                parts.append(
                    f"{one} is {direction(deltas[0].mean)} {other}{within(deltas[0])} ({direction(deltas[1].mean)} "
                    "at the plain rate)"
                )
    return f"at their own rates the order by perplexity is {order}" + "".join(f"; {part}" for part in parts) + "."


def within(delta):
    """A note if a difference is smaller than its deviation."""
    return ", within one standard deviation of zero," if abs(delta.mean) < delta.deviation else ""


def limits_sentence(tuning):
    margins = [tuning.margin(config) for config in tuning.configs]
    low, high = number_text(min(margins), ".1f"), number_text(max(margins), ".1f", "far more than 100")
    return (
        f"what a finer search would find: the rates are a factor of 2 apart and are judged by seed {SEED} only, where the "
        f"next best of a configuration is {low} to {high} % worse; and other schedules, batch sizes and "
        "lengths of training have other best rates."
    )


def section(chapter):
    """The search and its outcome, of the configurations whose search has ended."""
    tuning = Tuning(chapter.plain)
    if not tuning.configs:
        return []
    rate = SHAPES[chapter.scale.shape].training["learning_rate"]
    return [
        chapter.title("Each configuration at its own learning rate"),
        f"Multiples of the learning rate of {rate:g}. The best one is chosen on the first half of the held-out "
        "files; its results are from the second half, which has no file in common with the first, except one "
        "that may span the border.",
        search_table(tuning),
        comparison_table(tuning),
        chapter.draw(draw_tuning, tuning, name="tuned", alt="Perplexity by learning rate, and at the best one"),
        conclusion(found_sentence(tuning), limits_sentence(tuning)),
    ]


def draw_tuning(figures, tuning):
    """Two panels: perplexity by learning rate; perplexity at the plain and at the own rate with its
    deviation."""
    figure, (search_axis, axis) = figures.plt.subplots(1, 2, figsize=(9.4, 4.0), layout="constrained")
    for config in tuning.configs:
        losses = {factor: loss for factor, loss in tuning.losses[config].items() if math.isfinite(loss)}
        style = {"color": figures.COLORS[config], "marker": figures.MARKERS[config]}
        search_axis.plot(
            list(losses),
            [math.exp(loss) for loss in losses.values()],
            markersize=5,
            label=figures.label(config),
            **style,
        )
        best = tuning.best[config]
        search_axis.plot([best], [math.exp(losses[best])], markersize=12, fillstyle="none", linestyle="", **style)
    factors = sorted({factor for losses in tuning.losses.values() for factor in losses})
    search_axis.set_xscale("log", base=2)
    search_axis.set_xticks(factors, [f"{factor:g}" for factor in factors])
    search_axis.set_xlabel("multiple of the learning rate")
    search_axis.set_ylabel("perplexity, first half (ringed: chosen)")
    search_axis.legend(frameon=False)
    for place, config in enumerate(tuning.configs):
        for own in (False, True):
            estimate = Estimate.of(map(second_half, tuning.runs(config, own)))
            figures.point(axis, place + (0.13 if own else -0.13), estimate, figures.COLORS[config], filled=own)
    axis.set_xticks(
        range(len(tuning.configs)), [figures.label(config).replace(" + ", "+") for config in tuning.configs]
    )
    axis.set_xlim(-0.6, len(tuning.configs) - 0.4)
    axis.set_ylabel("perplexity, second half (hollow: plain rate)")
    for panel in (search_axis, axis):
        panel.grid(axis="y", zorder=0)
    return figure
