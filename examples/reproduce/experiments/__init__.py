"""The experiments: each module of this folder is an experiment of that name. It has

    ORDER             its position in --help and in the report
    HELP              a one-line description for --help; without it the module has no runs of its own and adds a
                      section about those of others
    BEYOND = True     for an experiment that goes past the paper: not part of `all`, but of `beyond`
    grid(request)     the runs that it needs for one seed, made by request.spec(). A run that needs another's
                      checkpoint names that run (init_from=..., teacher=...), which need not be listed itself.
                      grid() is called again whenever a run has ended, and may use request.selection_loss(); its
                      programs and contexts must be among those of the first call
    IN_HALVES = True  if its runs are also evaluated on the first half of the held-out files, so that a choice can
                      be made there and tested on the second: request.selection_loss(), Run.halves
    section(chapter)  its part of the report on the runs of one recipe, as Markdown, with its figures; nothing if
                      it has no runs

An experiment that measures its runs after training and evaluation also has

    PROGRAMS          the programs that it needs for that
    measure(jobs, arguments, corpus, stop)
                      writes missing measurements into the folders of these jobs; `corpus` is the folder of the
                      shards, which then has the held-out files as held_out.jsonl

and holds the paper's numbers for it. reproduce.sh reads the lines ORDER, HELP and BEYOND from the source.
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
    """A request for runs. `configs` are for experiments that do not choose their own configurations.
    `selection_loss(spec)` is the loss of a finished run on the first half of the held-out files, for runs
    that are evaluated in halves: infinite for a diverged run, None before it has ended."""

    scale: Scale
    recipe: str
    seed: int
    configs: tuple = PAPER_CONFIGS
    selection_loss: Callable = lambda spec: None

    def spec(self, config, shape=None, context=CONTEXT, rate_factor=1, decay_slopes=None, options=None, **prerequisites):
        """One run, of the scale's main shape unless another is named. Slopes decay as in the recipe by
        default. `options` are further options of its trainer, {"teacher_weight": 0.5}, which override the
        recipe's. A prerequisite, init_from=... or teacher=..., is another run, which is trained first and
        whose checkpoint it gets."""
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
    """The modules of this folder in order; ends the program if one is not an experiment."""
    modules = []
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{name}")
        module.name = name
        lines = Path(module.__file__).read_text(encoding="utf-8").splitlines()
        if f"ORDER = {getattr(module, 'ORDER', None)}" not in lines or not hasattr(module, "section"):
            raise Malformed(f"{module.__file__} is not an experiment: it needs a line ORDER = N and section(chapter)")
        if hasattr(module, "HELP") != hasattr(module, "grid"):
            raise Malformed(f"{module.__file__} needs both HELP and grid(request), or neither")
        if hasattr(module, "HELP") and f'HELP = "{module.HELP}"' not in lines:
            raise Malformed(f'{module.__file__} needs its HELP as one line HELP = "...", which reproduce.sh reads')
        if hasattr(module, "BEYOND") and "BEYOND = True" not in lines:
            raise Malformed(f"{module.__file__} needs BEYOND as a line BEYOND = True, which reproduce.sh reads")
        modules.append(module)
    return sorted(modules, key=lambda module: module.ORDER)


def grid(experiments, scale, recipe, seeds, configs=PAPER_CONFIGS, selection_loss=Request.selection_loss):
    """The runs that these experiments are known to need, each once, seed by seed, each after its
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
    """The names of experiments, with groups expanded."""
    return [name for asked in names for name in GROUPS.get(asked, [asked])]


def with_prerequisites(spec):
    """A run, preceded by all that must be trained before it."""
    before = [needed for other in spec.prerequisites.values() for needed in with_prerequisites(other)]
    return [*before, spec]


def that_measure(experiments):
    """The modules of those experiments that measure their runs."""
    return [module for name, module in EXPERIMENTS.items() if name in expanded(experiments) and hasattr(module, "measure")]


SECTIONS = _load()
EXPERIMENTS = {module.name: module for module in SECTIONS if hasattr(module, "grid")}
GROUPS = {
    "all": [name for name, module in EXPERIMENTS.items() if not hasattr(module, "BEYOND")],
    "beyond": [name for name, module in EXPERIMENTS.items() if hasattr(module, "BEYOND")],
}
