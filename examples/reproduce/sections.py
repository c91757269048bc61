"""The sections of a report: which tables, sentences and figures stand together."""

import entropy
import figures
import outliers
import paper
import perplexity
import private_inference
import slopes
from comparison import Comparison
from experiments import CONFIGURATIONS, SHAPES
from stability import Stability
from text import bullets, image


class Sections:
    """The experiments of one recipe, as sections of the report; figures go into `pictures`."""

    def __init__(self, recipe, runs, unigram, pictures):
        self.recipe, self.unigram, self.pictures = recipe, unigram, pictures
        self.suffix = "_clean" if recipe == "clean" else ""
        self.title = " (clean recipe)" if recipe == "clean" else ""
        runs = [run for run in runs if run.spec.recipe == recipe]
        self.plain = [run for run in runs if not run.spec.shape.startswith("pythia")]
        self.pythia = [run for run in runs if run.spec.shape.startswith("pythia")]
        self.fixed = [
            run
            for run in self.plain
            if run.spec.rate_factor == 1 and not CONFIGURATIONS[run.config].learnable
        ]
        self.learned = [
            run for run in self.plain if run.spec.rate_factor == 1 and CONFIGURATIONS[run.config].learnable
        ]

    def draw(self, function, *arguments, name, alt):
        """Draws a figure and returns the Markdown that shows it."""
        function(*arguments, self.pictures / f"{name}{self.suffix}.png")
        return image(alt, name + self.suffix)

    def all(self):
        return [
            *self.perplexity(),
            *self.slopes(),
            *self.other_shape(),
            *self.stability(),
            *self.outliers(),
        ]

    def perplexity(self):
        """The paper's figures 1, 2 and 4 and its main table."""
        if not self.fixed:
            return []
        comparison = Comparison(self.fixed)
        panels = [
            (CONFIGURATIONS[config].label, comparison.by_config[config]) for config in comparison.configs
        ]
        several = len(comparison.seeds) > 1
        first = f" Shown is seed {comparison.seeds[0]}." if several else ""
        mean = " Mean over the seeds." if several else ""
        return [
            f"## Perplexity on held-out files{self.title}",
            perplexity.perplexity_table([("", comparison, paper.GPT2)]),
            perplexity.seeds_sentence(comparison),
            bullets(perplexity.findings(comparison, paper.GPT2)),
            self.draw(
                figures.evaluation_loss,
                comparison,
                name="evaluation_loss",
                alt="Evaluation loss over training",
            ),
            "The paper's figure 2b."
            + (" Lines: mean over the seeds; bands: their range." if several else ""),
            f"## Attention entropy{self.title}",
            self.draw(figures.heatmaps, comparison, name="entropy_heatmaps", alt="Entropy of every head"),
            "The paper's figure 1." + first,
            bullets(entropy.findings(comparison)),
            entropy.quarters_table(comparison),
            "Quarters of E_max, the largest head entropy among all runs above; beside each share the "
            "paper's (GPT-2, 144 heads).",
            self.draw(
                figures.quarters,
                comparison,
                name="entropy_quarters",
                alt="Heads by quarter of the largest entropy",
            ),
            "The paper's figure 2a." + (" Whiskers: standard deviation over the seeds." if several else ""),
            entropy.layer_table(comparison),
            self.draw(
                figures.layer_entropy,
                panels,
                comparison.largest_possible,
                name="layer_entropy",
                alt="Mean entropy per layer over training",
            ),
            "The paper's figure 4." + mean,
        ]

    def slopes(self):
        """The paper's figures 3 and 5."""
        groups = slopes.groups_of(self.learned)
        lost = [run.spec.label for run in self.learned if run.diverged]
        parts = [f"## Learnable slopes{self.title}"] if groups or lost else []
        if lost:
            parts.append(bullets([f"**{label} diverged** and is left out." for label in lost]))
        if not groups:
            return parts
        parts += [slopes.slope_table(groups), bullets(slopes.findings(groups))]
        for scope, figure in (("layerwise", "3a"), ("global", "3b")):
            same = [group for group in groups if slopes.scope_of(group.config) == scope]
            if same:
                name = f"slopes_{scope}"
                parts += [
                    self.draw(figures.slopes, same, name=name, alt=f"Slopes over training, {scope}"),
                    f"The paper's figure {figure}, decayed as in its code beside not decayed.",
                ]
        panels = [(group.label, group.runs) for group in groups]
        largest = Comparison([group.runs[0] for group in groups]).largest_possible
        parts += [
            self.draw(
                figures.layer_entropy,
                panels,
                largest,
                name="slopes_layer_entropy",
                alt="Mean entropy per layer, learnable slopes",
            ),
            "The paper's figure 5.",
        ]
        return parts

    def other_shape(self):
        """The paper's table of Pythia-70M at two context lengths."""
        contexts = sorted({run.spec.context for run in self.pythia})
        if not contexts:
            return []
        found = {
            context: Comparison([run for run in self.pythia if run.spec.context == context])
            for context in contexts
        }
        parts = [
            f"## Pythia{self.title}",
            "Rotary positions, parallel residual, untied output. Longer windows come with as many fewer "
            "steps, so that the tokens are the same.",
            perplexity.perplexity_table(
                [
                    (f"T = {context}: ", comparison, paper.PYTHIA.get(context, {}))
                    for context, comparison in found.items()
                ]
            ),
            perplexity.seeds_sentence(found[contexts[0]]),
        ]
        for context, comparison in found.items():
            if context in paper.PYTHIA:
                parts += [
                    f"### T = {context}",
                    bullets(perplexity.findings(comparison, paper.PYTHIA[context])),
                ]
        return parts

    def stability(self):
        """Multiples of the learning rate, of the configurations that were tried at any."""
        tried = {(run.config, run.spec.decay_slopes) for run in self.plain if run.spec.rate_factor != 1}
        runs = [run for run in self.plain if (run.config, run.spec.decay_slopes) in tried]
        if not runs:
            return []
        judged = Stability(runs, self.unigram)
        return [
            f"## Stability at higher learning rates{self.title}",
            judged.table(),
            bullets(judged.findings()),
        ]

    def outliers(self):
        """What flows through the residual stream and the hidden layer, where it was logged."""
        if not any(run.stream for run in self.fixed):
            return []
        comparison = Comparison(self.fixed)
        return [
            f"## Residual stream and hidden layer{self.title}",
            "At the end of training, on the held-out files where the evaluation measured it. Kurtosis of the "
            "channels' RMS, mean s⁴ / (mean s²)² over the channels (He et al. 2024): 1 when all channels are "
            "equally strong, the width when one is alone.",
            *outliers.tables(comparison),
            bullets(outliers.findings(comparison)),
        ]


def inference_section(shape, configs):
    """The costs of private inference of a shape, and of the GPT-2 that published costs are of."""
    parts = ["## Private inference"]
    for name in dict.fromkeys((shape, "gpt2")):
        sizes = SHAPES[name]
        parts += [
            f"Nonlinear operations of one token in one layer of {name} ({sizes.heads} heads, width "
            f"{sizes.width}, FFN {sizes.ffn_width}, {sizes.context} tokens; softmax without use of the "
            "causal mask; a final norm would be one row more per token, once):",
            private_inference.counts_table(configs, name),
            private_inference.activation_sentence(name),
        ]
    return [*parts, private_inference.measurements_table(), bullets(private_inference.findings())]
