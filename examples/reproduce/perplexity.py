"""The perplexities of configurations beside the paper's, and what they say."""

import paper
from experiments import BASELINE, CONFIGURATIONS, PAPER_CONFIGS
from text import direction, names, signed, table

PAIRS = (
    ("sm_r", "sm_g", "ReLU for GELU without LayerNorm"),
    ("sm_ln_r", "sm_ln_g", "ReLU for GELU with LayerNorm"),
    ("sm_g", "sm_ln_g", "Taking LayerNorm away from GELU"),
    ("sm_r", "sm_ln_r", "Taking LayerNorm away from ReLU"),
)


def _delta_text(delta):
    if delta.count == 0:
        return "–"
    return f"**{delta.text('+.2f') if delta.count > 1 and delta.deviation > 0 else signed(delta.mean)}**"


def _cells(comparison, config, printed):
    """Ours and the paper's perplexity and change."""
    estimate = comparison.perplexity(config)
    lost = len(comparison.by_config[config]) - estimate.count
    text = f"**{estimate.text()}**" if estimate.count else "diverged"
    text += f" ({lost} diverged)" if lost and estimate.count else ""
    ours = [text, _delta_text(comparison.delta(config))]
    return ours + (
        [f"{printed[config][0]:.3f}", signed(printed[config][1])] if config in printed else ["–", "–"]
    )


def perplexity_table(columns):
    """In the form of the paper's tables. `columns`: (name, Comparison, the paper's numbers) of each group of
    four columns."""
    header = ["Configurations"]
    for name, _, _ in columns:
        header += [f"{name}Eval PPL", "+(%)", "paper: Eval PPL", "+(%)"]
    configs = [
        config
        for config in CONFIGURATIONS
        if any(config in comparison.configs for _, comparison, _ in columns)
    ]
    rows = []
    for config in configs:
        row = [CONFIGURATIONS[config].label]
        for _, comparison, printed in columns:
            row += _cells(comparison, config, printed) if config in comparison.configs else ["–"] * 4
        rows.append(row)
    return table(header, rows)


def seeds_sentence(comparison):
    """How numbers over several seeds are to be read; empty for one seed."""
    if len(comparison.seeds) < 2:
        return ""
    return (
        f"Mean ± standard deviation over the seeds {names(map(str, comparison.seeds))}; changes in % are "
        "taken seed by seed, so that their deviation is that of the difference, not of the perplexities."
    )


def pair_sentence(comparison, config, reference, subject, printed):
    """How one configuration's perplexity lies to another's, beside the paper; None if one is missing."""
    if not {config, reference} <= set(comparison.configs):
        return None
    one, other = CONFIGURATIONS[config].label, CONFIGURATIONS[reference].label
    delta = comparison.delta(config, reference)
    if not delta.count:
        lost = [CONFIGURATIONS[key].label for key in (config, reference) if not comparison.sound(key)]
        if lost:
            return f"{subject}: no comparison, {names(lost)} diverged."
        return f"{subject}: no comparison, no seed has a sound run of both."
    theirs = paper.change(printed, config, reference)
    agrees = (
        "the same direction as in the paper"
        if (delta.mean < 0) == (theirs < 0)
        else "the opposite of the paper"
    )
    spread = ""
    if delta.count > 1:
        spread = (
            f" (mean of {delta.count} seeds, standard deviation of the difference {delta.deviation:.1f} %)"
        )
        if abs(delta.mean) < delta.deviation:
            agrees += ", but within one standard deviation of nothing"
    return f"{subject}: {one} is **{direction(delta.mean)}** {other}{spread}, {agrees} ({direction(theirs)})."


def order_sentence(comparison, printed):
    """The order by perplexity, held against the paper's order of the same configurations."""
    ours = [config for config in PAPER_CONFIGS if config in comparison.configs and comparison.sound(config)]
    if len(ours) < 2:
        return None
    ours.sort(key=lambda config: comparison.perplexity(config).mean)
    papers = sorted(ours, key=lambda config: printed[config])

    def chain(configs):
        return " < ".join(CONFIGURATIONS[config].label for config in configs)

    if ours == papers:
        return f"Order by perplexity: {chain(ours)}. This **is** the paper's order."
    return f"Order by perplexity: {chain(ours)}. This is **not** the paper's order, which is {chain(papers)}."


def other_sentence(comparison):
    """Configurations that the paper does not have, against the baseline."""
    others = [config for config in comparison.configs if config not in PAPER_CONFIGS]
    deltas = {config: comparison.delta(config) for config in others}
    told = [
        f"{CONFIGURATIONS[config].label} {direction(delta.mean)}"
        for config, delta in deltas.items()
        if delta.count
    ]
    if not told:
        return None
    return f"Past the paper, against {CONFIGURATIONS[BASELINE].label}: {names(told)}."


def findings(comparison, printed):
    """Sentences, all computed."""
    several = len(comparison.seeds) > 1

    def name(run):
        return run.label + (f" (seed {run.spec.seed})" if several else "")

    sentences = [
        f"**{name(run)} diverged**: its loss stopped being a number. Its entropies are those of its last "
        "checkpoint."
        for run in comparison.runs
        if run.diverged
    ]
    sentences += [
        f"{name(run)}: {run.losses_not_finite} logged training losses are not finite."
        for run in comparison.runs
        if run.losses_not_finite
    ]
    sentences += [
        f"{name(run)}: {run.nonfinite_rows} attention rows had scores that are not finite; they are left "
        "out of the entropies."
        for run in comparison.runs
        if run.nonfinite_rows
    ]
    sentences.append(order_sentence(comparison, printed))
    sentences += [pair_sentence(comparison, *pair, printed) for pair in PAIRS]
    sentences.append(other_sentence(comparison))
    return [sentence for sentence in sentences if sentence]
