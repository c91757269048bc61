"""How an L1 penalty on the hidden units of SM + R changes its share of zeros and its perplexity.

The penalty is the coefficient times the sum over layers of the mean over tokens of the sum over hidden units
of |h|. It is not part of the perplexities.
"""

import numpy as np

from comparison import Estimate, paired_percent
from configurations import CONFIGURATIONS
from text import bullets, conclusion, number_text, table

ORDER = 23
HELP = "SM + R with an L1 penalty on its hidden units, 1e-4 to 1e-2"
BEYOND = True

FREE, PENALIZED = "sm_r", "sm_r_sparse"
PENALTIES = (1e-4, 1e-3, 1e-2)
# A penalty costs little if it raises the perplexity by no more than this, in %.
LITTLE = 1.0


def grid(request):
    """A penalty of 0 is the plain SM + R."""
    penalized = [request.spec(PENALIZED, options={"hidden_penalty": penalty}) for penalty in PENALTIES]
    return [request.spec(FREE), *penalized]


def by_penalty(chapter):
    """{penalty: runs of the seeds that also have the plain run}, from 0 on."""
    free = [run for run in chapter.fixed if run.config == FREE]
    found = {0.0: free}
    for run in chapter.main:
        if run.config == PENALIZED and dict(run.spec.options).keys() == {"hidden_penalty"}:
            found.setdefault(dict(run.spec.options)["hidden_penalty"], []).append(run)
    return {penalty: [run for run in found[penalty] if not run.diverged] for penalty in sorted(found)}


def zeros(runs):
    """(seeds, layers) share of the hidden units that are 0, in %; None if it was not observed."""
    shares = [run.by_layer["zeros"] for run in runs if "zeros" in run.by_layer]
    return 100 * np.stack(shares) if shares else None


def mean_zeros(runs):
    """Over all layers, an Estimate over the seeds."""
    shares = zeros(runs)
    return Estimate.of([] if shares is None else shares.mean(axis=1))


def penalty_text(penalty):
    """0.001 as "1e-3"."""
    return f"{penalty:.0e}".replace("e-0", "e-") if penalty else "none"


def zeros_table(groups):
    layers = max(len(run.by_layer.get("zeros", [])) for runs in groups.values() for run in runs)
    rows = []
    for penalty, runs in groups.items():
        shares = zeros(runs)
        by_layer = ["–"] * layers if shares is None else [number_text(share, ".1f") for share in shares.mean(axis=0)]
        rows.append(
            [
                penalty_text(penalty),
                f"**{Estimate.of([run.perplexity for run in runs]).text(missing='diverged')}**",
                paired_percent(runs, groups[0.0]).text("+.2f") if penalty else "0",
                mean_zeros(runs).text(".1f"),
                *by_layer,
            ]
        )
    header = ["Penalty", "Eval PPL", "to none (%)", "zeros (%)", *(f"layer {layer}" for layer in range(layers))]
    return table(header, rows)


def found_sentence(groups):
    """The strongest penalty that costs little, and the cost of the strongest of all."""
    costs = {penalty: paired_percent(runs, groups[0.0]) for penalty, runs in groups.items() if penalty and runs}
    costs = {penalty: cost for penalty, cost in costs.items() if cost.count}
    if not costs:
        return "nothing, since no seed has both a penalized and a plain run that trained."

    def told(penalty):
        change = number_text(costs[penalty].mean, "+.1f")
        return f"{mean_zeros(groups[penalty]).text('.1f')} % zeros at {change} % perplexity"

    free = f"where {mean_zeros(groups[0.0]).text('.1f')} % of the hidden units are zero without a penalty"
    cheap = [penalty for penalty, cost in costs.items() if cost.mean <= LITTLE]
    last = max(costs)
    if not cheap:
        first = min(costs)
        return f"{free}, each penalty costs more than {LITTLE:g} %: {penalty_text(first)} gives {told(first)}."
    strongest = max(cheap)
    text = f"{free}, {penalty_text(strongest)} is the strongest penalty that costs no more than {LITTLE:g} %: "
    text += told(strongest)
    return text + (f"; {penalty_text(last)} gives {told(last)}." if last != strongest else ".")


def limits_sentence(groups):
    free = {run.spec.seed: run.tokens_per_second for run in groups[0.0]}
    speeds = Estimate.of(
        [
            run.tokens_per_second / free[run.spec.seed]
            for penalty, runs in groups.items()
            for run in runs
            if penalty and run.spec.seed in free
        ]
    )
    speed = (
        f", and penalized runs have {number_text(speeds.mean)} times the speed of plain ones" if speeds.count else ""
    )
    return (
        f"what zeros save, since training does not skip them{speed}; and a coefficient weighs the sum over all hidden units, "
        "so it is stronger in larger models."
    )


def section(chapter):
    """Perplexity against zeros."""
    groups = by_penalty(chapter)
    lost = [run.spec.label for run in chapter.main if run.config == PENALIZED and run.diverged]
    if not any(runs for penalty, runs in groups.items() if penalty):
        return []
    return [
        chapter.title("Sparsity"),
        f"{CONFIGURATIONS[FREE].label} with an L1 penalty on the outputs of its activations. Zeros are hidden units that are "
        "exactly 0, on the held-out files.",
        zeros_table(groups),
        bullets([f"**{label} diverged** and is left out." for label in lost]),
        chapter.draw(draw_sparsity, groups, name="sparsity", alt="Perplexity against zeros, and zeros by layer"),
        conclusion(found_sentence(groups), limits_sentence(groups)),
    ]


def draw_sparsity(figures, groups):
    """Two panels: perplexity against the share of zeros, with deviations; zeros by layer; a color for each penalty."""
    figure, (left, right) = figures.plt.subplots(1, 2, figsize=(9.4, 3.9), layout="constrained")
    colors = figures.layer_colors(len(groups))
    for color, (penalty, runs) in zip(colors, groups.items()):
        perplexity, share = Estimate.of([run.perplexity for run in runs]), mean_zeros(runs)
        if share.count:
            figures.point(left, share.mean, perplexity, color)
            figures.point(left, perplexity.mean, share, color, horizontal=True)
            by_layer = zeros(runs).mean(axis=0)
            right.plot(by_layer, color=color, marker="o", markersize=5, linewidth=1.6, label=penalty_text(penalty))
    left.set_xlabel("zeros after the activation (%)")
    left.set_ylabel("perplexity on held-out files")
    right.set_xlabel("layer")
    right.set_ylabel("zeros after the activation (%)")
    right.set_ylim(0, 102)
    right.xaxis.set_major_locator(figures.MaxNLocator(integer=True))
    for axis in (left, right):
        axis.grid(zorder=0)
    if right.get_legend_handles_labels()[0]:
        right.legend(frameon=False, title="penalty")
    return figure
