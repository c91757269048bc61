"""The experiments, a file each: a module of this folder is an experiment of its name. It has

    ORDER               its place in --help and in the report
    HELP                what it is, for --help, in one line; without it the module has no runs of its own and adds
                        a section about those of others
    BEYOND = True       where it goes past the paper: `all` leaves it out, `beyond` is all of these
    grid(request)       the runs that it needs of one seed, made by request.spec(); one that needs another's checkpoint
                        names it (init_from=..., teacher=...), and that one need not be named besides. It is asked
                        again whenever a run has ended, and may go by request.selection_loss(); its programs and
                        contexts must be among those that it names at first
    IN_HALVES = True    where its runs are evaluated on the first half of the held-out files as well, so that a choice
                        can be made there and its outcome told on the second: request.selection_loss(), Run.halves
    section(chapter)    its part of the report on the runs of one recipe, as Markdown, with its figures; nothing where
                        none of its runs are there

An experiment that measures its runs when they are trained and evaluated also has

    PROGRAMS            the programs that it needs for that
    measure(jobs, arguments, corpus, stop)
                        leaves what it measures in the folders of these jobs, where it is not yet; `corpus` is the folder
                        of the shards, which then has the held-out files as held_out.jsonl

and holds what the paper says about it. reproduce.sh finds the lines ORDER and HELP by themselves.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from configurations import CONFIGURATIONS, PAPER_CONFIGS, RECIPES, Malformed
from runs import Spec
from scales import CONTEXT, SCALES, Scale


@dataclass(frozen=True)
class Request:
    """What runs are asked for: `configs` where an experiment does not say itself which it compares.
    `selection_loss(spec)` is the loss of a run that has ended on the first half of the held-out files, where runs are
    evaluated in halves: infinite for a diverged one, None before it has ended."""

    scale: Scale
    recipe: str
    seed: int
    configs: tuple = PAPER_CONFIGS
    selection_loss: Callable = lambda spec: None

    def spec(self, config, shape=None, context=CONTEXT, rate_factor=1, decay_slopes=None, options=None, **prerequisites):
        """One run, of the scale's main shape unless another is named. Slopes decay as in the recipe unless said.
        `options` are further ones of its trainer, {"teacher_weight": 0.5}, which win over the recipe's; a prerequisite,
        init_from=... or teacher=..., is another run, whose checkpoint it gets and which is trained first."""
        if CONFIGURATIONS[config].learnable and decay_slopes is None:
            decay_slopes = RECIPES[self.recipe]["decay_slopes"]
        return Spec(
            shape or self.scale.shape,
            config,
            context,
            self.seed,
            self.recipe,
            rate_factor,
            decay_slopes,
            tuple((options or {}).items()),
            **prerequisites,
        )


def _load():
    """The modules of this folder in their order; ends the program at one that is no experiment."""
    modules = []
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{name}")
        module.name = name
        lines = Path(module.__file__).read_text(encoding="utf-8").splitlines()
        if f"ORDER = {getattr(module, 'ORDER', None)}" not in lines or not hasattr(module, "section"):
            raise Malformed(f"{module.__file__} is no experiment: it needs a line ORDER = N and section(chapter)")
        if hasattr(module, "HELP") != hasattr(module, "grid"):
            raise Malformed(f"{module.__file__} needs both HELP and grid(request), or neither")
        if hasattr(module, "HELP") and f'HELP = "{module.HELP}"' not in lines:
            raise Malformed(f'{module.__file__} needs its HELP as one line HELP = "...", which reproduce.sh reads')
        if hasattr(module, "BEYOND") and "BEYOND = True" not in lines:
            raise Malformed(f"{module.__file__} needs BEYOND as a line BEYOND = True, which reproduce.sh reads")
        modules.append(module)
    return sorted(modules, key=lambda module: module.ORDER)


def grid(experiments, scale, recipe, seeds, configs=PAPER_CONFIGS, selection_loss=Request.selection_loss):
    """The runs that these experiments need as far as they are known, each once, seed by seed, each behind its
    prerequisites: {Spec: whether it is evaluated in halves}."""
    configs = tuple(config for config in CONFIGURATIONS if config in configs)
    chosen = [module for name, module in EXPERIMENTS.items() if name in expanded(experiments)]
    found = {}
    for seed in seeds:
        request = Request(SCALES[scale], recipe, seed, configs, selection_loss)
        for module in chosen:
            for spec in module.grid(request):
                for needed in with_prerequisites(spec):
                    found.setdefault(needed, False)
                found[spec] |= hasattr(module, "IN_HALVES")
    return found


def expanded(names):
    """The names of experiments, those of a group in place of the group's."""
    return [name for asked in names for name in GROUPS.get(asked, [asked])]


def with_prerequisites(spec):
    """A run behind all that must be trained before it."""
    before = [needed for other in spec.prerequisites.values() for needed in with_prerequisites(other)]
    return [*before, spec]


def that_measure(experiments):
    """Those of these experiments that measure their runs, as modules."""
    return [module for name, module in EXPERIMENTS.items() if name in expanded(experiments) and hasattr(module, "measure")]


SECTIONS = _load()
EXPERIMENTS = {module.name: module for module in SECTIONS if hasattr(module, "grid")}
GROUPS = {
    "all": [name for name, module in EXPERIMENTS.items() if not hasattr(module, "BEYOND")],
    "beyond": [name for name, module in EXPERIMENTS.items() if hasattr(module, "BEYOND")],
}
