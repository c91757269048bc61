"""The paper's four configurations on another architecture, with windows of two lengths."""

from comparison import Comparison
from configurations import PAPER_CONFIGS
from experiments.perplexity import findings, perplexity_table, seeds_sentence
from text import bullets

ORDER = 4
HELP = "the four on Pythia's architecture, windows of 128 and 256; its table"

# The paper's table 3: evaluation perplexity of Pythia-70M and its change in % as printed, by context.
PAPER = {
    128: {"sm_ln_g": (3.512, 0.00), "sm_ln_r": (3.590, 2.22), "sm_g": (4.086, 16.35), "sm_r": (3.736, 6.36)},
    256: {"sm_ln_g": (3.054, 0.00), "sm_ln_r": (3.107, 1.73), "sm_g": (3.570, 16.87), "sm_r": (3.273, 7.17)},
}


def grid(request):
    return [
        request.spec(config, shape=request.scale.pythia, context=context)
        for context in PAPER
        for config in PAPER_CONFIGS
    ]


def section(chapter):
    """The paper's table of Pythia-70M at two context lengths."""
    pythia = [run for run in chapter.runs if run.spec.shape == chapter.scale.pythia and run.spec.is_bare]
    contexts = sorted({run.spec.context for run in pythia})
    if not contexts:
        return []
    found = {context: Comparison([run for run in pythia if run.spec.context == context]) for context in contexts}
    parts = [
        chapter.title("Pythia"),
        "Rotary positions, parallel residual, untied output. Longer windows have proportionally fewer steps, "
        "so that the number of tokens is the same.",
        perplexity_table(
            [
                (f"T = {context}: ", comparison, PAPER.get(context, {}))
                for context, comparison in found.items()
            ]
        ),
        seeds_sentence(found[contexts[0]]),
    ]
    for context, comparison in found.items():
        if context in PAPER:
            parts += [f"### T = {context}", bullets(findings(comparison, PAPER[context]))]
    return parts
