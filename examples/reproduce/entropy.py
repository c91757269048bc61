"""Entropies of attention heads: which heads are near uniform, in which layers, beside the paper."""

import math

import numpy as np

import paper
from experiments import CONFIGURATIONS
from text import number_text, table

# Mean entropies of early layers that differ by less (nats) are called equal; where overload showed, it was
# 0.3 to 0.8.
CLEAR_DIFFERENCE = 0.1
QUARTERS = ("0 – ¼", "¼ – ½", "½ – ¾", "¾ – 1")


def quarters_table(comparison):
    def share(estimate):
        if not estimate.count:
            return "n/a"
        spread = f" ± {100 * estimate.deviation:.0f}" if estimate.count > 1 else ""
        return f"{100 * estimate.mean:.0f}{spread} %"

    rows = []
    for config in comparison.configs:
        printed = paper.QUARTERS.get(config)
        row = [CONFIGURATIONS[config].label]
        for quarter, estimate in enumerate(comparison.quarters(config)):
            row += [share(estimate), f"{printed[quarter]} %" if printed else "–"]
        rows.append(row)
    return table(["Share of heads", *(cell for name in QUARTERS for cell in (name, "paper"))], rows)


def layer_table(comparison):
    """Mean entropy of each layer's heads, over the seeds."""
    rows = [
        [CONFIGURATIONS[config].label, *(number_text(mean) for mean in comparison.layer_entropy(config))]
        for config in comparison.configs
    ]
    return table(["Mean entropy (nats), layer", *map(str, range(comparison.layers))], rows)


def largest_sentence(comparison):
    run = next(run for run in comparison.runs if (run.head_entropy == comparison.largest).any())
    layer, head = np.argwhere(run.head_entropy == comparison.largest)[0]
    seed = f", seed {run.spec.seed}" if len(comparison.seeds) > 1 else ""
    return (
        f"The largest head entropy, E_max, is {comparison.largest:.2f} nats ({run.label}{seed}, layer "
        f"{layer}, head {head}); uniform causal attention would give {comparison.largest_possible:.2f}."
    )


def top_quarter_sentence(comparison):
    """Whose heads crowd the top quarter; None with fewer than two configurations of the paper."""
    top = {
        config: comparison.quarters(config)[3].mean
        for config in comparison.configs
        if config in paper.QUARTERS and comparison.sound(config)
    }
    top = {config: share for config, share in top.items() if math.isfinite(share)}
    if len(top) < 2:
        return None
    most = max(top.values())
    leaders = [config for config in top if top[config] == most]
    papers = max(top, key=lambda config: paper.QUARTERS[config][3])
    label = ", ".join(CONFIGURATIONS[config].label for config in leaders)
    verdict = (
        "as in the paper" if leaders == [papers] else f"in the paper it is {CONFIGURATIONS[papers].label}"
    )
    return f"Most heads in the top quarter: {label} with {100 * most:.0f} %; {verdict}."


def overload_sentence(comparison):
    """Whether norm-free GELU keeps its early heads near uniform where ReLU does not."""
    if not (comparison.sound("sm_g") and comparison.sound("sm_r")):
        return None
    gelu, relu = comparison.early_entropy("sm_g"), comparison.early_entropy("sm_r")
    if not (gelu.count and relu.count):
        return "Early layers without LayerNorm: no comparison, some of their entropies are not finite."
    first, last = comparison.early[0], comparison.early[-1]
    layers = f"layers {first} to {last}" if first != last else f"layer {first}"
    difference = gelu.mean - relu.mean
    if difference >= CLEAR_DIFFERENCE:
        verdict = "The paper's entropic overload with GELU **shows**"
    elif difference > -CLEAR_DIFFERENCE:
        verdict = "The paper's entropic overload with GELU does **not** show"
    else:
        verdict = "This is the **opposite** of the paper's entropic overload with GELU"
    return (
        f"Early layers ({layers}) without LayerNorm: {gelu.text()} nats on average with GELU, {relu.text()} "
        f"with ReLU. {verdict}."
    )


def findings(comparison):
    if not math.isfinite(comparison.largest):
        return ["No head has a finite entropy, so there is nothing to compare."]
    lost = [CONFIGURATIONS[config].label for config in comparison.configs if not comparison.sound(config)]
    return [
        largest_sentence(comparison),
        f"{' and '.join(lost)} diverged: what follows leaves {'it' if len(lost) == 1 else 'them'} out."
        if lost
        else None,
        top_quarter_sentence(comparison),
        overload_sentence(comparison),
    ]
