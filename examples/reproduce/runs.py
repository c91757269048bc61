"""What identifies a run, and the trainer options that follow from it."""

from dataclasses import asdict, dataclass, fields

from configurations import CONFIGURATIONS, RECIPES, SHAPES
from scales import CONTEXT, SCALES

# The suffix of a trainer's name for each device. Trainer names are formed only here.
DEVICE_SUFFIX = {"cpu": "", "cuda": "_cuda"}
FIRST_RECIPE = next(iter(RECIPES))
# Why a run may need another run's checkpoint: fields of Spec, and options of the trainer.
LINKS = ("init_from", "teacher")


@dataclass(frozen=True)
class Spec:
    """What identifies a run: two runs with the same Spec, scale and corpus are the same run."""

    shape: str
    config: str
    context: int
    seed: int
    recipe: str = FIRST_RECIPE
    rate_factor: int = 1
    decay_slopes: bool | None = None  # None if there are no slopes
    options: tuple = ()  # further options of the trainer, ((name, value), ...)
    init_from: "Spec | None" = None  # the run whose final weights it starts from
    teacher: "Spec | None" = None  # the run whose final model it learns from

    @classmethod
    def from_json(cls, value):
        """The Spec written by `as_json`, possibly of a version with fewer fields; raises KeyError, TypeError
        or ValueError if it is not one."""
        values = {item.name: value[item.name] for item in fields(cls) if item.name in value}
        values["options"] = tuple(dict(values.get("options", {})).items())
        for link in LINKS:
            if values.get(link) is not None:
                values[link] = cls.from_json(values[link])
        spec = cls(**values)
        if spec.config not in CONFIGURATIONS or spec.shape not in SHAPES or spec.recipe not in RECIPES:
            raise ValueError("unknown configuration, shape or recipe")
        return spec

    def as_json(self):
        values = asdict(self) | {"options": dict(self.options)}
        return values | {link: other.as_json() for link, other in self.prerequisites.items()}

    @property
    def prerequisites(self):
        """The runs whose checkpoints it needs, {option of the trainer: Spec}."""
        return {link: getattr(self, link) for link in LINKS if getattr(self, link) is not None}

    @property
    def is_bare(self):
        """Whether it is fully described by its configuration, recipe and learning rate."""
        return not self.options and not self.prerequisites

    @property
    def name(self):
        """The run's folder."""
        return "-".join(self._with_prerequisites(Spec._words_of_name, "_"))

    @property
    def label(self):
        """The run in words."""
        return ", ".join(self._with_prerequisites(Spec._words_of_label, " "))

    def _words_of_name(self):
        parts = [self.shape, self.config, f"T{self.context}", self.recipe]
        parts += [f"lr{self.rate_factor}x"] if self.rate_factor != 1 else []
        parts += [] if self.decay_slopes is None else ["decayed" if self.decay_slopes else "undecayed"]
        parts += [f"{option}_{value}" for option, value in self.options]
        return [*parts, f"seed{self.seed}"]

    def _words_of_label(self):
        parts = [CONFIGURATIONS[self.config].label]
        parts += ["Pythia"] if self.is_pythia else []
        parts += [f"T {self.context}"] if self.context != CONTEXT else []
        parts += [self.recipe] if self.recipe != FIRST_RECIPE else []
        parts += [f"{self.rate_factor} x rate"] if self.rate_factor != 1 else []
        parts += [] if self.decay_slopes is None else ["decayed" if self.decay_slopes else "undecayed"]
        parts += [f"{option.replace('_', ' ')} {value}" for option, value in self.options]
        return [*parts, f"seed {self.seed}"]

    def _with_prerequisites(self, words_of, space):
        """The description of the run, and before the seed that of each prerequisite, without the shape,
        context, recipe and seed that they have in common."""
        own = words_of(self)
        links = []
        for link, other in self.prerequisites.items():
            common = {other.shape, f"T{other.context}", other.recipe, f"seed{other.seed}", f"seed {other.seed}"} & {*own}
            words = [word for word in other._with_prerequisites(words_of, space) if word not in common]
            links.append(space.join([link.replace("_", space), *words]))
        return [*own[:-1], *links, own[-1]]

    @property
    def is_pythia(self):
        """Whether the model has the paper's other architecture."""
        return self.shape.startswith("pythia")

    def trainer(self, device, ranks=1):
        """The program that trains it with `ranks` processes, which is also the CMake target."""
        recipe = f"_{self.recipe}" if self.recipe != FIRST_RECIPE else ""
        return f"train_{self.shape}_{self.config}{recipe}{DEVICE_SUFFIX[device]}{'_mpi' if ranks > 1 else ''}"


def recipe_of(spec, scale, windows, device="cpu", ranks=1):
    """All options of the trainer that determine a run's result; `windows` is the size of an epoch."""
    scale, recipe = SCALES[scale], RECIPES[spec.recipe]
    options = SHAPES[spec.shape].training | scale.training
    del options["steps"]
    if device == "cuda" and options["accumulate"] > 1:
        # Passes as large as memory allows, which is the trainers' default.
        options = {"step_windows": options.pop("batch_size") * options.pop("accumulate")} | options
    elif options["accumulate"] % ranks:
        # A pass for each rank, with proportionally fewer windows.
        options["batch_size"] //= ranks
        options["accumulate"] *= ranks
    options["learning_rate"] *= spec.rate_factor
    options |= {"dropout": recipe["dropout"], "context": spec.context, "seed": spec.seed}
    if spec.decay_slopes is not None:
        options["decay_slopes"] = spec.decay_slopes
    shorter = 1 if scale.steps is None else spec.context / CONTEXT
    options["steps"] = windows // windows_of_step(options) if scale.steps is None else round(scale.steps / shorter)
    every = {name: max(1, round(steps / shorter)) for name, steps in scale.every.items()}
    return options | every | dict(spec.options)


def windows_of_step(recipe):
    """Windows in one optimizer step."""
    return recipe.get("step_windows") or recipe["batch_size"] * recipe["accumulate"]


def tokens_of_step(recipe):
    """Tokens in one optimizer step."""
    return windows_of_step(recipe) * recipe["context"]


def tokens_of(recipe):
    """Tokens that a run of this recipe trains on."""
    return recipe["steps"] * tokens_of_step(recipe)


def options_of(values):
    """{"batch_size": 16, "decay_slopes": False} as ["--batch-size", "16", "--no-decay-slopes"]."""
    words = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", str(value)]
    return words
