"""The runs of one recipe, from which the report's sections are written."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from configurations import CONFIGURATIONS, RECIPES
from runs import FIRST_RECIPE
from scales import CONTEXT, Scale
from text import image


@dataclass(frozen=True)
class Chapter:
    """The data of an experiment's section; figures go into `pictures`."""

    recipe: str
    scale: Scale
    runs: list
    unigram: float  # loss, in nats, of the model that knows only the token frequencies
    pictures: Path

    @cached_property
    def plain(self):
        """Runs of the scale's main shape with windows of the usual length and no options of their own."""
        return [run for run in self.main if run.spec.is_bare]

    @cached_property
    def main(self):
        """Runs of the scale's main shape with windows of the usual length."""
        return [
            run for run in self.runs if (run.spec.shape, run.spec.context) == (self.scale.shape, CONTEXT)
        ]

    @cached_property
    def fixed(self):
        """Runs at the default learning rate without learned slopes."""
        return [
            run
            for run in self.plain
            if run.spec.rate_factor == 1 and not CONFIGURATIONS[run.config].learnable
        ]

    @property
    def final_norm_limit(self):
        """The end of a limitation about removed norms: that the final one stays, if the recipe has it everywhere."""
        keeps = RECIPES[self.recipe]["final_norm"] == "FinalNorm::layer_norm"
        return "; and the final LayerNorm stays, as in every model of this recipe" if keeps else ""

    def title(self, text):
        """A heading, which names the recipe unless it is the default."""
        recipe = f" ({self.recipe} recipe)" if self.recipe != FIRST_RECIPE else ""
        return f"## {text}{recipe}"

    def draw(self, function, *arguments, name, alt):
        """Draws the figure that `function` returns, and returns the Markdown that shows it. The first
        argument of `function` is the module figures, which takes seconds to load and so is loaded late."""
        import figures

        name += f"_{self.recipe}" if self.recipe != FIRST_RECIPE else ""
        figures.save(function(figures, *arguments), self.pictures / f"{name}.png")
        return image(alt, name)
