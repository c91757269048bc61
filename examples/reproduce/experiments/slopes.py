"""Learnable slopes of the leaky ReLU over training, with and without weight decay, compared with the
paper."""

import math

import numpy as np

from comparison import Comparison
from configurations import CONFIGURATIONS
from text import bullets, number_text, table

ORDER = 3
HELP = "learnable slopes of a leaky ReLU, with and without weight decay; figures 3 and 5"

LEARNED = [config for config, configuration in CONFIGURATIONS.items() if configuration.learnable]
CONFIGS = ("sm_leaky_layerwise", "sm_leaky_global", "sm_ln_leaky_layerwise", "sm_ln_leaky_global")
# The paper's statements about learned slopes.
PAPER = {
    "layerwise": "early layers first learn positive slopes, deeper ones negative; later all approach "
    "zero",
    "global": "the slope first becomes positive, then approaches zero",
}
# The initial slope. "About zero" means no farther from zero than this; a rise is clear if it is at least half
# of this.
START = 0.01
CLEAR_RISE = START / 2


def scope_of(config):
    return "global" if "global" in CONFIGURATIONS[config].activation else "layerwise"


class SlopeRuns:
    """The runs of one configuration with slopes decayed or not, over seeds."""

    def __init__(self, config, decayed, runs):
        self.config, self.decayed, self.runs = config, decayed, runs

    @property
    def label(self):
        return f"{CONFIGURATIONS[self.config].label}, {'decayed' if self.decayed else 'not decayed'}"

    def course(self):
        """(progress of the training from 0 to 1, slopes (times, layers)), the mean over seeds at the times
        that all have."""
        by_seed = [{step / run.steps: slopes for step, slopes in run.slopes} for run in self.runs]
        times = sorted(set.intersection(*(set(slopes) for slopes in by_seed)))
        return np.array(times), np.mean([[slopes[time] for time in times] for slopes in by_seed], axis=0)

    def final(self):
        """(layers,) mean over seeds."""
        return np.mean([run.slopes[-1][1] for run in self.runs], axis=0)

    def alone(self):
        """The factor by which weight decay alone would shrink a slope: exp(-decay * sum of the learning
        rates)."""
        recipe = self.runs[0].recipe
        return math.exp(-recipe["weight_decay"] * recipe["learning_rate"] * recipe["steps"] / 2)


def groups_of(runs):
    """SlopeRuns in the order of the configurations, decayed before not decayed, of runs that logged slopes
    and did not diverge."""
    found = []
    for config in LEARNED:
        for decayed in (True, False):
            same = [
                run
                for run in runs
                if (run.config, run.spec.decay_slopes) == (config, decayed)
                and run.slopes
                and not run.diverged
            ]
            if same:
                found.append(SlopeRuns(config, decayed, same))
    return found


def slope_table(groups):
    layers = max(len(group.final()) for group in groups)
    rows = []
    for group in groups:
        final = group.final()
        cells = [number_text(value, "+.3f") for value in final]
        perplexity = float(np.mean([run.perplexity for run in group.runs]))
        rows.append([group.label, f"{perplexity:.2f}", *cells, *[""] * (layers - len(final))])
    return table(["Final slopes", "Eval PPL", *(f"layer {layer}" for layer in range(layers))], rows)


def _move(times, values, rises):
    """How a mean slope moved away from its initial value, in words, and whether it did."""
    index = int(np.argmax(values) if rises else np.argmin(values))
    at = f"{100 * times[index]:.0f} % of the training"
    value = number_text(values[index], "+.3f")
    if rises:
        moved = values[index] >= START + CLEAR_RISE
        return (
            f"rose to {value} ({at})" if moved else f"never rose clearly above their initial value, {START}"
        ), moved
    moved = values[index] < 0
    return (f"fell to {value} ({at})" if moved else "never became negative"), moved


def course_sentence(group):
    """How the slopes of one group moved, and whether that agrees with the paper."""
    times, course = group.course()
    final = group.final()
    near = int(np.sum(np.abs(final) <= START))
    if scope_of(group.config) == "global":
        rise, first = _move(times, course[:, 0], True)
        text = f"the slope {rise.replace('their', 'its')} and ends at {number_text(final[0], '+.3f')}"
        said = first and near == 1
    else:
        half = max(1, course.shape[1] // 2)
        rise, up = _move(times, course[:, :half].mean(axis=1), True)
        fall, down = _move(times, course[:, half:].mean(axis=1), False)
        text = (
            f"on average the slopes of the first half of the layers {rise}, those of the second {fall}; "
            f"{near} of {len(final)} end about zero, all between {number_text(final.min(), '+.3f')} and "
            f"{number_text(final.max(), '+.3f')}"
        )
        said = up and down and near == len(final)
    verdict = "This **is** the paper's course" if said else "This is **not** the paper's course"
    return f"{group.label}: {text}. {verdict}."


def decay_sentence(decayed, undecayed):
    """Whether weight decay is what makes slopes approach zero."""
    means = [float(np.abs(group.final()).mean()) for group in (decayed, undecayed)]
    near = [bool(np.all(np.abs(group.final()) <= START)) for group in (decayed, undecayed)]
    if near == [True, False]:
        verdict = "they end about zero only with decay: decay **is** the cause"
    elif near == [True, True]:
        verdict = "they end about zero with and without decay: decay is **not** the cause"
    elif near == [False, True]:
        verdict = "they end about zero only without decay"
    else:
        verdict = "they do **not** end about zero, with or without decay"
    return (
        f"{CONFIGURATIONS[decayed.config].label}: the mean distance of a final slope from zero is "
        f"{means[0]:.3f} with decay and {means[1]:.3f} without; {verdict}. Decay alone would shrink a slope "
        f"to {100 * decayed.alone():.0f} % of itself over this schedule."
    )


def findings(groups):
    scopes = dict.fromkeys(scope_of(group.config) for group in groups)
    sentences = [
        f"The paper: {'; '.join(f'{scope}, {PAPER[scope]}' for scope in scopes)}. *About zero* means "
        f"here: no farther from zero than their initial value, {START}."
    ]
    sentences += [course_sentence(group) for group in groups]
    for config in LEARNED:
        pair = [group for group in groups if group.config == config]
        if len(pair) == 2:
            sentences.append(decay_sentence(*pair))
    return sentences


def grid(request):
    return [request.spec(config, decay_slopes=decayed) for config in CONFIGS for decayed in (True, False)]


def section(chapter):
    """The paper's figures 3 and 5."""
    runs = [run for run in chapter.plain if run.spec.rate_factor == 1 and run.config in LEARNED]
    groups = groups_of(runs)
    lost = [run.spec.label for run in runs if run.diverged]
    parts = [chapter.title("Learnable slopes")] if groups or lost else []
    if lost:
        parts.append(bullets([f"**{label} diverged** and is left out." for label in lost]))
    if not groups:
        return parts
    parts += [slope_table(groups), bullets(findings(groups))]
    for scope, figure in (("layerwise", "3a"), ("global", "3b")):
        same = [group for group in groups if scope_of(group.config) == scope]
        if same:
            parts += [
                chapter.draw(draw_slopes, same, name=f"slopes_{scope}", alt=f"Slopes over training, {scope}"),
                f"The paper's figure {figure}, with decay as in its code, and without.",
            ]
    panels = [(group.label, group.runs) for group in groups]
    largest = Comparison([group.runs[0] for group in groups]).largest_possible
    parts += [
        chapter.draw(
            lambda figures: figures.layer_entropy(panels, largest),
            name="slopes_layer_entropy",
            alt="Mean entropy per layer, learnable slopes",
        ),
        "The paper's figure 5.",
    ]
    return parts


def draw_slopes(figures, groups):
    """Slopes over training tokens, a panel for each SlopeRuns, with and without decay; one line per layer, or
    one for all with the range over seeds."""
    rows = {config: index for index, config in enumerate(dict.fromkeys(group.config for group in groups))}
    columns = {
        decayed: index for index, decayed in enumerate(dict.fromkeys(group.decayed for group in groups))
    }
    figure, axes = figures.plt.subplots(
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
    colors = figures.layer_colors(layers) if layerwise else None
    most = max(run.tokens for group in groups for run in group.runs)
    for axis in axes.flat:
        axis.set_visible(False)
    for group in groups:
        axis = axes[rows[group.config]][columns[group.decayed]]
        axis.set_visible(True)
        steps, values = figures.by_seed(run.slopes for run in group.runs)
        tokens = group.runs[0].tokens_at(steps)
        for layer in range(layers):
            color = colors[layer] if layerwise else figures.COLORS[group.config]
            axis.plot(tokens, values[:, :, layer].mean(axis=0), color=color, linewidth=1.5)
            if not layerwise and len(group.runs) > 1:
                low, high = values[:, :, layer].min(axis=0), values[:, :, layer].max(axis=0)
                axis.fill_between(tokens, low, high, color=color, alpha=0.2, linewidth=0)
        axis.axhline(0, color="#555555", linewidth=0.9)
        axis.axhline(START, color="#999999", linewidth=0.9, linestyle=(0, (4, 3)))
        axis.set_title(group.label)
        axis.grid(zorder=0)
        label = figures.tokens_axis(axis, most)
    figure.supxlabel(label, fontsize=10)
    figure.supylabel(f"negative slope (dashed: initial value, {START})", fontsize=10)
    if layerwise:
        figures.layer_bar(figure, axes, layers, colors)
    return figure
