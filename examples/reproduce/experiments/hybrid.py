"""ReLU in some layers and GELU in the others, without LayerNorm: the hybrid strategies of the paper's
Appendix D. ReLU in the earlier layers and GELU in the later ones is compared with the reverse and with
alternating layers."""

import numpy as np

from comparison import Comparison
from configurations import CONFIGURATIONS
from experiments.perplexity import seeds_sentence
from text import bullets, conclusion, direction, names, number_text, table

ORDER = 21
HELP = "ReLU and GELU in different layers of one norm-free model"
BEYOND = True

PURE = ("sm_g", "sm_r")
MIXED = ("sm_relu_gelu", "sm_gelu_relu", "sm_alternating")


def grid(request):
    return [request.spec(config) for config in (*PURE, *MIXED)]


def found_sentence(comparison):
    """How the best mixture compares with the pure models, and what the position of ReLU matters."""
    means = {config: comparison.perplexity(config).mean for config in comparison.configs if comparison.sound(config)}
    mixed = [config for config in MIXED if config in means]
    if not mixed:
        return "all mixtures diverged."
    best = min(mixed, key=means.get)
    parts = []
    for config in PURE:
        delta = comparison.delta(best, config)
        if delta.count:
            doubt = ", within one standard deviation of zero" if abs(delta.mean) < delta.deviation else ""
            parts.append(f"{direction(delta.mean)} {CONFIGURATIONS[config].label}{doubt}")
    text = f"the best mixture is {CONFIGURATIONS[best].label}" + (f", {names(parts)}" if parts else "")
    order = " < ".join(CONFIGURATIONS[config].label for config in sorted(means, key=means.get))
    return f"{text}; the order by perplexity is {order}."


def limits_sentence(comparison):
    spread = [comparison.perplexity(config).deviation for config in comparison.configs]
    spread = [value for value in spread if np.isfinite(value)]
    seeds = "this is one seed"
    if spread:
        seeds = f"the perplexities of one configuration's seeds deviate by up to {number_text(max(spread))}"
    return (
        f"which layers need which activation: these are only three of all mixtures of {comparison.layers} "
        f"layers, each trained at one learning rate, and {seeds}."
    )


def section(chapter):
    """The mixtures between the two pure models."""
    runs = [run for run in chapter.fixed if run.config in (*PURE, *MIXED)]
    if not any(run.config in MIXED for run in runs):
        return []
    comparison = Comparison(runs)
    configs = [config for config in (*PURE, *MIXED) if config in comparison.configs]
    rows = []
    for config in configs:
        of_layers = layers_text(config, comparison.layers)
        top = comparison.quarters(config)[3]
        rows.append(
            [
                CONFIGURATIONS[config].label,
                of_layers,
                f"**{comparison.perplexity(config).text(missing='diverged')}**",
                *("0" if config == pure else comparison.delta(config, pure).text("+.2f") for pure in PURE),
                f"{number_text(100 * top.mean, '.0f')} %",
            ]
        )
    against = [f"to {CONFIGURATIONS[pure].label} (%)" for pure in PURE]
    lost = [run.spec.label for run in runs if run.diverged]
    return [
        chapter.title("Hybrid activations"),
        table(["Norm-free", "layers", "Eval PPL", *against, "heads in the top quarter of entropy"], rows),
        seeds_sentence(comparison),
        bullets([f"**{label} diverged** and is left out." for label in lost]),
        chapter.draw(
            draw_hybrids, comparison, configs, name="hybrid", alt="Perplexity, and entropy by layer, of mixtures"
        ),
        conclusion(found_sentence(comparison), limits_sentence(comparison)),
    ]


def layers_text(config, layers):
    """R and G, layer by layer: "RRRRGGGG"."""
    return "".join(name[0] for name in CONFIGURATIONS[config].activations(layers))


def draw_hybrids(figures, comparison, configs):
    """Two panels: perplexity with its deviation; mean entropy of the heads of each layer, with filled markers
    for ReLU."""
    figure, (left, right) = figures.plt.subplots(1, 2, figsize=(9.6, 3.9), layout="constrained")
    for place, config in enumerate(reversed(configs)):
        estimate = comparison.perplexity(config)
        figures.point(left, place, estimate, figures.COLORS[config], marker=figures.MARKERS[config], horizontal=True)
    left.set_yticks(range(len(configs)), [figures.label(config) for config in reversed(configs)])
    left.set_ylim(-0.6, len(configs) - 0.4)
    left.set_xlabel("perplexity on held-out files")
    left.grid(axis="x", zorder=0)
    for config in configs:
        entropy = comparison.layer_entropy(config)
        right.plot(entropy, color=figures.COLORS[config], linewidth=1.6, label=figures.label(config))
        for layer, name in enumerate(CONFIGURATIONS[config].activations(comparison.layers)):
            right.plot(
                [layer],
                entropy[layer : layer + 1],
                color=figures.COLORS[config],
                marker=figures.MARKERS[config],
                markersize=6,
                markerfacecolor=figures.COLORS[config] if name == "ReLU" else "white",
                linestyle="",
            )
    right.set_xticks(range(comparison.layers))
    right.set_ylim(0, 1.08 * comparison.largest_possible)
    right.set_xlabel("layer (filled: ReLU, hollow: GELU)")
    right.set_ylabel("mean entropy of the heads (nats)")
    right.grid(axis="y", zorder=0)
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=len(labels), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure
