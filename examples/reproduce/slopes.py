"""Learnable slopes of the leaky ReLU over training, decayed and not, held against what the paper says."""

import math

import numpy as np

import paper
from experiments import CONFIGURATIONS, SLOPE_CONFIGS
from text import number_text, table

# Every slope starts here. "About zero" means: no farther from zero than it started; a rise is clear when it is
# at least half as large.
START = 0.01
CLEAR_RISE = START / 2


def scope_of(config):
    return "global" if config.endswith("global") else "layerwise"


class SlopeRuns:
    """The runs of one configuration with slopes decayed or not, over seeds."""

    def __init__(self, config, decayed, runs):
        self.config, self.decayed, self.runs = config, decayed, runs

    @property
    def label(self):
        return f"{CONFIGURATIONS[self.config].label}, {'decayed' if self.decayed else 'not decayed'}"

    def course(self):
        """(part of the training from 0 to 1, slopes (times, layers)), the mean over seeds of the times that
        all have."""
        by_seed = [{step / run.steps: slopes for step, slopes in run.slopes} for run in self.runs]
        times = sorted(set.intersection(*(set(slopes) for slopes in by_seed)))
        return np.array(times), np.mean([[slopes[time] for time in times] for slopes in by_seed], axis=0)

    def final(self):
        """(layers,) mean over seeds."""
        return np.mean([run.slopes[-1][1] for run in self.runs], axis=0)

    def alone(self):
        """What weight decay alone would leave of a slope: exp(-decay * sum of the learning rates)."""
        recipe = self.runs[0].recipe
        return math.exp(-recipe["weight_decay"] * recipe["learning_rate"] * recipe["steps"] / 2)


def groups_of(runs):
    """SlopeRuns in the order of the configurations, decayed before not decayed, of runs that logged slopes
    and did not diverge."""
    found = []
    for config in SLOPE_CONFIGS:
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
    """How a mean slope moved away from its start, in words, and whether it did."""
    index = int(np.argmax(values) if rises else np.argmin(values))
    at = f"{100 * times[index]:.0f} % of the training"
    value = number_text(values[index], "+.3f")
    if rises:
        moved = values[index] >= START + CLEAR_RISE
        return (
            f"rose to {value} ({at})" if moved else f"never rose clearly above their start, {START}"
        ), moved
    moved = values[index] < 0
    return (f"fell to {value} ({at})" if moved else "never became negative"), moved


def course_sentence(group):
    """What the slopes of one group did, and whether that is what the paper saw."""
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
    """Whether it is weight decay that makes slopes go to zero."""
    means = [float(np.abs(group.final()).mean()) for group in (decayed, undecayed)]
    near = [bool(np.all(np.abs(group.final()) <= START)) for group in (decayed, undecayed)]
    if near == [True, False]:
        verdict = "they come to about zero only with decay: decay **is** what brings them there"
    elif near == [True, True]:
        verdict = "they come to about zero with and without decay: decay is **not** the cause"
    elif near == [False, True]:
        verdict = "they come to about zero only without decay"
    else:
        verdict = "they do **not** come to about zero, with decay or without"
    return (
        f"{CONFIGURATIONS[decayed.config].label}: the mean distance of a final slope from zero is "
        f"{means[0]:.3f} with decay and {means[1]:.3f} without; {verdict}. Decay alone would shrink a slope "
        f"to {100 * decayed.alone():.0f} % of itself over this schedule."
    )


def findings(groups):
    scopes = dict.fromkeys(scope_of(group.config) for group in groups)
    sentences = [
        f"The paper: {'; '.join(f'{scope}, {paper.SLOPES[scope]}' for scope in scopes)}. *About zero* means "
        f"here: no farther from zero than the {START} where slopes start."
    ]
    sentences += [course_sentence(group) for group in groups]
    for config in SLOPE_CONFIGS:
        pair = [group for group in groups if group.config == config]
        if len(pair) == 2:
            sentences.append(decay_sentence(*pair))
    return sentences
