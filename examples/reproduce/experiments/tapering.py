"""LayerNorms that taper off in the middle of a model's training, as in TaperNorm (arXiv:2602.10408).

The experiment `removal` trains a finished model further and so pays for a second schedule. Here the norms
disappear within one: all models have the same steps and the same schedule of the learning rate.
"""

from comparison import Comparison, paired_percent
from configurations import CONFIGURATIONS
from experiments.perplexity import draw_evaluation_loss, seeds_sentence
from experiments.removal import FREE
from text import conclusion, direction, table

ORDER = 25
HELP = "SM + LN + G and SM + LN + R, whose norms taper off in the middle of their training"
BEYOND = True

# Shares of the steps after which the norms begin to taper off, and are gone.
OPTIONS = {"removal_from": 0.2, "removal_to": 0.5}


def tapered(normed):
    return f"{normed}_tapered"


def grid(request):
    specs = []
    for normed, free in FREE.items():
        specs += [request.spec(normed), request.spec(free), request.spec(tapered(normed), options=OPTIONS)]
    return specs


def complete(chapter, normed):
    """(with norms, never with norms, tapered) of each seed that has all three."""
    bare = {(run.config, run.spec.seed): run for run in chapter.fixed}
    triples = [
        (bare.get((normed, run.spec.seed)), bare.get((FREE[normed], run.spec.seed)), run)
        for run in chapter.main
        if run.config == tapered(normed) and run.spec.options == tuple(OPTIONS.items()) and not run.spec.prerequisites
    ]
    return [triple for triple in triples if None not in triple]


def found(normed, triples):
    """What the norms are worth at the end, as part of a sentence; None if nothing can be compared."""
    sound = [triple for triple in triples if not any(run.diverged for run in triple)]
    if not sound:
        return None
    with_norms, without, gone = zip(*sound)
    to_normed, to_free = paired_percent(gone, with_norms), paired_percent(gone, without)
    labels = [CONFIGURATIONS[config].label for config in (normed, FREE[normed])]
    return (
        f"{labels[0]} whose norms taper off is {direction(to_normed.mean)} {labels[0]} that keeps them, and "
        f"{direction(to_free.mean)} {labels[1]}, which never has any"
    )


def section(chapter):
    """Perplexities with norms, without, and with norms that are gone at the end."""
    groups = {normed: triples for normed in FREE if (triples := complete(chapter, normed))}
    if not groups:
        return []
    comparison = Comparison([run for triples in groups.values() for triple in triples for run in triple])
    rows = [
        [
            CONFIGURATIONS[config].label,
            f"**{comparison.perplexity(config).text(missing='diverged')}**",
            *("0" if config == other else comparison.delta(config, other).text("+.2f") for other in (normed, FREE[normed])),
        ]
        for normed in groups
        for config in (normed, tapered(normed), FREE[normed])
    ]
    parts = [part for normed, triples in groups.items() if (part := found(normed, triples))]
    limits = "what an earlier, a later or a longer taper would give: only one was tried, at one learning rate"
    first, last = (f"{100 * share:.0f} %" for share in OPTIONS.values())
    return [
        chapter.title("Norms that taper off during training"),
        f"All models have the same steps and one schedule of the learning rate. The norms taper off together between {first} and "
        f"{last} of the steps, and the models are evaluated without them.",
        table(["Runs", "Eval PPL", "to the norms kept (%)", "to no norms at all (%)"], rows),
        seeds_sentence(comparison),
        chapter.draw(
            draw_evaluation_loss, comparison, name="tapering", alt="Evaluation loss with norms, without, and with norms that taper off"
        ),
        conclusion(f"{'; '.join(parts)}.", f"{limits}{chapter.final_norm_limit}.") if parts else "",
    ]
