"""What makes a run itself, and the options of the trainer that follow from it."""

from dataclasses import asdict, dataclass, fields

from configurations import CONFIGURATIONS, RECIPES, SHAPES
from scales import CONTEXT, SCALES

# Trainers of another device have another suffix; nothing else knows how a trainer's name is formed.
DEVICE_SUFFIX = {"cpu": "", "cuda": "_cuda"}
FIRST_RECIPE = next(iter(RECIPES))


@dataclass(frozen=True)
class Spec:
    """What makes a run itself: two runs with the same Spec, scale and corpus are the same run."""

    shape: str
    config: str
    context: int
    seed: int
    recipe: str = FIRST_RECIPE
    rate_factor: int = 1
    decay_slopes: bool | None = None  # None where there are no slopes

    @classmethod
    def from_json(cls, value):
        """The Spec that `as_json` gave; raises KeyError, TypeError or ValueError when it is none."""
        spec = cls(**{item.name: value[item.name] for item in fields(cls)})
        if spec.config not in CONFIGURATIONS or spec.shape not in SHAPES or spec.recipe not in RECIPES:
            raise ValueError("unknown configuration, shape or recipe")
        return spec

    def as_json(self):
        return asdict(self)

    @property
    def name(self):
        """The run's folder."""
        parts = [self.shape, self.config, f"T{self.context}", self.recipe]
        parts += [f"lr{self.rate_factor}x"] if self.rate_factor != 1 else []
        parts += [] if self.decay_slopes is None else ["decayed" if self.decay_slopes else "undecayed"]
        return "-".join([*parts, f"seed{self.seed}"])

    @property
    def label(self):
        """The run in words."""
        parts = [CONFIGURATIONS[self.config].label]
        parts += ["Pythia"] if self.is_pythia else []
        parts += [f"T {self.context}"] if self.context != CONTEXT else []
        parts += [self.recipe] if self.recipe != FIRST_RECIPE else []
        parts += [f"{self.rate_factor} x rate"] if self.rate_factor != 1 else []
        parts += [] if self.decay_slopes is None else ["decayed" if self.decay_slopes else "undecayed"]
        return ", ".join([*parts, f"seed {self.seed}"])

    @property
    def is_pythia(self):
        """Whether the model is of the paper's other architecture."""
        return self.shape.startswith("pythia")

    def trainer(self, device, ranks=1):
        """The program that trains it with so many processes, which is also its CMake target."""
        recipe = f"_{self.recipe}" if self.recipe != FIRST_RECIPE else ""
        return f"train_{self.shape}_{self.config}{recipe}{DEVICE_SUFFIX[device]}{'_mpi' if ranks > 1 else ''}"


def recipe_of(spec, scale, windows, device="cpu", ranks=1):
    """All options of the trainer that decide a run's result; `windows` of training data for an epoch."""
    scale, recipe = SCALES[scale], RECIPES[spec.recipe]
    options = {name: value for name, value in SHAPES[spec.shape].training.items() if name != "steps"}
    if device == "cuda" and options["accumulate"] > 1:
        # Passes as large as the memory allows, as the trainers do by default.
        options = {"step_windows": options.pop("batch_size") * options.pop("accumulate")} | options
    elif options["accumulate"] % ranks:
        # A pass for each rank, of as many windows less.
        options["batch_size"] //= ranks
        options["accumulate"] *= ranks
    options["learning_rate"] *= spec.rate_factor
    options |= {"dropout": recipe["dropout"], "context": spec.context, "seed": spec.seed}
    if spec.decay_slopes is not None:
        options["decay_slopes"] = spec.decay_slopes
    shorter = 1 if scale.steps is None else spec.context / CONTEXT
    options["steps"] = windows // windows_of_step(options) if scale.steps is None else round(scale.steps / shorter)
    every = {name: max(1, round(steps / shorter)) for name, steps in scale.every.items()}
    return options | every


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
