"""Removes the LayerNorms of a trained model during further training.

The finished SM + LN model of a seed is trained further for a quarter of its steps: with its norms, as the
control; with all norms tapered off together; and with norms removed one after another. The last two end as
models of the norm-free architecture and are evaluated as such. They are compared with the norm-free model
trained from scratch on the same total number of tokens.
"""

from comparison import Comparison, Estimate, paired_percent
from configurations import CONFIGURATIONS, SHAPES
from experiments.perplexity import seeds_sentence
from text import bullets, conclusion, direction, table

ORDER = 24
HELP = "SM + LN + G and SM + LN + R, whose norms are removed during further training"
BEYOND = True

# Models with norms, and their counterparts without.
FREE = {"sm_ln_g": "sm_g", "sm_ln_r": "sm_r"}
WAYS = {"": "norms kept", "_tapered": "norms tapered", "_staged": "norms removed one by one"}
COLORS = {"": "#444444", "_tapered": "#c8553d", "_staged": "#2a7f9e"}
# Length of the further training as a share of the scale's steps, and its initial share of the learning rate.
SHARE, RATE = 0.25, 0.5
STEPS = 1000  # if the scale is an epoch
EVALUATIONS = 6


def options_of(request):
    """Steps of the further training."""
    steps = round(SHARE * request.scale.steps) if request.scale.steps else STEPS
    rate = SHAPES[request.scale.shape].training["learning_rate"]
    return {"steps": steps, "learning_rate": RATE * rate, "eval_every": max(1, steps // EVALUATIONS)}


def grid(request):
    options, specs = options_of(request), []
    for normed, free in FREE.items():
        base = request.spec(normed)
        specs += [base, *(request.spec(normed + way, options=options, init_from=base) for way in WAYS)]
        specs.append(request.spec(free))
        if request.scale.steps:
            specs.append(request.spec(free, options={"steps": request.scale.steps + options["steps"]}))
    return specs


class Removed:
    """The runs of a model with norms, {column: runs of the seeds whose further runs all trained}: "base",
    those of WAYS, and, if available, "free" and "longer"."""

    def __init__(self, chapter, normed):
        self.normed = normed
        columns = {way: [run for run in chapter.main if self._goes_on(run, way)] for way in WAYS}
        columns["base"] = [run for run in chapter.fixed if run.config == normed]
        columns["free"] = [run for run in chapter.fixed if run.config == FREE[normed]]
        columns["longer"] = [
            run
            for run in chapter.main
            if run.config == FREE[normed] and not run.spec.prerequisites and [name for name, _ in run.spec.options] == ["steps"]
        ]
        needed = [*WAYS, "base"]
        self.seeds = sorted(set.intersection(*({run.spec.seed for run in columns[way]} for way in needed)))
        everything = {way: [run for run in runs if run.spec.seed in self.seeds] for way, runs in columns.items()}
        self.lost = [run.spec.label for runs in everything.values() for run in runs if run.diverged]
        self.by_way = {way: [run for run in runs if not run.diverged] for way, runs in everything.items()}

    def _goes_on(self, run, way):
        base = run.spec.init_from
        return run.config == self.normed + way and base is not None and base.config == self.normed and base.is_bare

    def change(self, way, reference=""):
        """By how many % the perplexity is above another column's, an Estimate over the seeds."""
        return paired_percent(self.by_way[way], self.by_way[reference])

    def rows(self):
        normed, free = CONFIGURATIONS[self.normed].label, CONFIGURATIONS[FREE[self.normed]].label
        labels = {"base": normed} | {way: f"{normed}, trained on, {words}" for way, words in WAYS.items()}
        labels |= {"free": f"{free}, from scratch", "longer": f"{free}, from scratch, same total tokens"}
        for way, label in labels.items():
            runs = self.by_way[way]
            if not runs:
                continue
            tokens = runs[0].tokens + (self.by_way["base"][0].tokens if way in WAYS and self.by_way["base"] else 0)
            yield [
                label,
                f"{tokens / 1e6:.1f} M",
                f"**{Estimate.of([run.perplexity for run in runs]).text()}**",
                "0" if way == "" else self.change(way).text("+.2f"),
            ]

    def found(self):
        """What the model's norms are worth at the end, as part of a sentence; None if unknown."""
        costs = {way: self.change(way) for way in WAYS if way}
        costs = {way: cost for way, cost in costs.items() if cost.count}
        if not costs:
            return None
        least = min(costs, key=lambda way: costs[way].mean)
        text = f"{CONFIGURATIONS[self.normed].label} without its norms is {direction(costs[least].mean)} its control at best "
        text += f"({WAYS[least]})"
        to_free = self.change(least, "longer")
        if to_free.count:
            text += f", and {direction(to_free.mean)} {CONFIGURATIONS[FREE[self.normed]].label} from scratch on as many tokens"
        return text


def section(chapter):
    """Perplexities with norms kept, removed and never present, and the loss during the removal."""
    groups = [group for group in (Removed(chapter, normed) for normed in FREE) if group.seeds]
    if not groups:
        return []
    limits = "what more steps, another rate or another schedule of the removal would give; only one of each was tried"
    found = [text for group in groups if (text := group.found())]
    return [
        chapter.title("Removing the norms of a trained model"),
        f"Trained models are trained further for {100 * SHARE:.0f} % of the steps, from {RATE:g} times the "
        "learning rate down to 0. At the end "
        "those whose norms were removed are evaluated without any: a removed norm is linear, and folds into the next "
        "matrix.",
        table(
            ["Runs", "tokens", "Eval PPL", "to norms kept (%)"],
            [row for group in groups for row in group.rows()],
        ),
        seeds_sentence(Comparison([run for group in groups for run in group.by_way["base"]])),
        bullets([f"**{label} diverged** and is left out." for group in groups for label in dict.fromkeys(group.lost)]),
        chapter.draw(draw_removal, groups, name="removal", alt="Evaluation loss while the norms are removed, and their gates"),
        conclusion(f"{'; '.join(found)}.", f"{limits}{chapter.final_norm_limit}.") if found else "",
    ]


def draw_removal(figures, groups):
    """A panel for each model: the evaluation loss during the further training, means over the seeds, and
    below it the gates."""
    figure, axes = figures.plt.subplots(
        2,
        len(groups),
        figsize=(1.4 + 4.2 * len(groups), 5.0),
        sharex=True,
        sharey="row",
        squeeze=False,
        gridspec_kw={"height_ratios": [3, 1]},
        layout="constrained",
    )
    for column, group in enumerate(groups):
        above, below = axes[:, column]
        for way, words in WAYS.items():
            runs = group.by_way[way]
            if not runs:
                continue
            steps, losses = figures.by_seed(run.evaluations for run in runs)
            style = {"color": COLORS[way], "linewidth": 1.8}
            above.plot(runs[0].tokens_at(steps), losses.mean(axis=0), marker="o", markersize=4, label=words, **style)
            if runs[0].gates:
                steps, gates = figures.by_seed(run.gates for run in runs)
                below.plot(runs[0].tokens_at(steps), gates.mean(axis=0), **style)
        above.set_title(CONFIGURATIONS[group.normed].label)
        above.grid(zorder=0)
        below.grid(zorder=0)
        below.set_ylim(-0.05, 1.05)
        most = max((run.tokens for way in WAYS for run in group.by_way[way]), default=1)
        below.set_xlabel(figures.tokens_axis(below, most))
    axes[0][0].set_ylabel("evaluation loss (nats)")
    axes[1][0].set_ylabel("norms left")
    if axes[0][0].get_legend_handles_labels()[0]:
        axes[0][0].legend(frameon=False)
    return figure
