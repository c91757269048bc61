"""What is run: configurations, shapes, scales and recipes, and the grid of runs that each experiment
needs."""

from dataclasses import asdict, dataclass, field, fields

BASELINE = "sm_ln_g"
PAPER_CONFIGS = ("sm_ln_g", "sm_ln_r", "sm_g", "sm_r")
SLOPE_CONFIGS = ("sm_leaky_layerwise", "sm_leaky_global", "sm_ln_leaky_layerwise", "sm_ln_leaky_global")
EXPERIMENTS = ("perplexity", "slopes", "pythia", "stability")
RECIPES = ("paper", "clean")
RATE_FACTORS = (1, 2, 4)
# Trainers of another device have another suffix; nothing else knows how a trainer's name is formed.
DEVICE_SUFFIX = {"cpu": "", "cuda": "_cuda"}


@dataclass(frozen=True)
class Configuration:
    """Which norm and which activation a block has; `learnable` where slopes are learned."""

    label: str
    norm: str
    activation: str
    learnable: bool = False


CONFIGURATIONS = {
    "sm_ln_g": Configuration("SM + LN + G", "LayerNorm", "GELU"),
    "sm_ln_r": Configuration("SM + LN + R", "LayerNorm", "ReLU"),
    "sm_g": Configuration("SM + G", "Identity", "GELU"),
    "sm_r": Configuration("SM + R", "Identity", "ReLU"),
    "sm_leaky_layerwise": Configuration("SM + leaky, layer-wise", "Identity", "LeakyLearnable", True),
    "sm_leaky_global": Configuration("SM + leaky, global", "Identity", "LeakyLearnable", True),
    "sm_ln_leaky_layerwise": Configuration(
        "SM + LN + leaky, layer-wise", "LayerNorm", "LeakyLearnable", True
    ),
    "sm_ln_leaky_global": Configuration("SM + LN + leaky, global", "LayerNorm", "LeakyLearnable", True),
    "sm_rms_g": Configuration("SM + RMS + G", "RMSNorm", "GELU"),
    "sm_dyt_g": Configuration("SM + DyT + G", "DynamicTanh", "GELU"),
    "sm_derf_g": Configuration("SM + Derf + G", "DynamicErf", "GELU"),
    "sm_squared_relu": Configuration("SM + R²", "Identity", "SquaredReLU"),
    "sm_silu": Configuration("SM + SiLU", "Identity", "SiLU"),
    "sm_relu_gelu": Configuration("SM + R, then G", "Identity", "ReLU, then GELU"),
    "sm_entropy_g": Configuration("SM + G, entropy-guided", "Identity", "GELU"),
}


@dataclass(frozen=True)
class Shape:
    """Sizes of a model; `context` is the most it takes."""

    layers: int
    heads: int
    width: int
    ffn_width: int
    context: int


SHAPES = {
    "demo": Shape(8, 4, 64, 256, 128),
    "gpt2": Shape(12, 12, 768, 3072, 128),
    "pythia_demo": Shape(8, 4, 64, 256, 256),
    "pythia_70m": Shape(6, 8, 512, 2048, 256),
}
PYTHIA_CONTEXTS = (128, 256)


@dataclass(frozen=True)
class Scale:
    """How much is trained. `steps` and every ..._every are optimizer steps at 128 tokens a window; with
    longer windows they are as many fewer as the windows are longer, so that the tokens stay the same."""

    shape: str
    pythia: str
    batch: dict  # options of the trainers for the windows of a step, by device
    optimization: dict  # others that do not change with the context
    every: dict  # after how many steps the trainer does what
    corpus: dict  # options of prepare_corpus, the same for every seed
    steps: int | None = None  # None: one epoch of the corpus
    threads: int = 1  # of a trainer; 0: all cores for one trainer at a time
    corpus_own: dict = field(default_factory=dict)  # what of `corpus` is different with --corpus


# The paper's recipe except for batch, steps, learning rate and warm-up. The initial standard deviation is
# 0.02 * sqrt(768 / width): it gives every matrix the gain it has in the paper's model.
_SMALL_BATCH = dict.fromkeys(DEVICE_SUFFIX, {"batch_size": 16, "accumulate": 1})
_SMALL = {
    "learning_rate": 2e-3,
    "warmup_ratio": 0.1,
    "weight_decay": 0.1,
    "init_std": 0.0693,
}
# The paper's own: 512 windows a step, in passes that fit a CPU's memory or as large as a GPU's allows.
_PAPER_BATCH = {"cpu": {"batch_size": 8, "accumulate": 64}, "cuda": {"step_windows": 512}}
_PAPER = {
    "learning_rate": 1e-3,
    "warmup_ratio": 0.05,
    "weight_decay": 0.1,
    "init_std": 0.02,
}
SCALES = {
    "smoke": Scale(
        "demo",
        "pythia_demo",
        _SMALL_BATCH,
        _SMALL,
        {"eval_every": 6, "observe_every": 2, "log_every": 1, "checkpoint_every": 6},
        {
            "vocab_size": 4096,
            "held_out": 0.01,
            "tokenizer_sample_bytes": 2_000_000,
            "max_train_tokens": 250_000,
        },
        steps=12,
    ),
    "demo": Scale(
        "demo",
        "pythia_demo",
        _SMALL_BATCH,
        _SMALL,
        {"eval_every": 488, "observe_every": 61, "log_every": 10, "checkpoint_every": 250},
        {"vocab_size": 4096, "held_out": 0.03},
        steps=3906,
    ),
    "gpt2": Scale(
        "gpt2",
        "pythia_70m",
        _PAPER_BATCH,
        _PAPER,
        {"eval_every": 500, "observe_every": 100, "log_every": 1, "checkpoint_every": 100},
        {"vocab_size": 50_000, "held_out": 0.03},
        threads=0,
        # Of a corpus like the paper's, its 2,000 files of 602,000.
        corpus_own={"held_out": 0.0033},
    ),
}
CORPUS_SEED = 0


@dataclass(frozen=True)
class Spec:
    """What makes a run itself: two runs with the same Spec, scale and corpus are the same run."""

    shape: str
    config: str
    context: int
    seed: int
    recipe: str = "paper"
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
        parts += ["Pythia"] if self.shape.startswith("pythia") else []
        parts += [f"T {self.context}"] if self.context != 128 else []
        parts += ["clean"] if self.recipe == "clean" else []
        parts += [f"{self.rate_factor} x rate"] if self.rate_factor != 1 else []
        parts += [] if self.decay_slopes is None else ["decayed" if self.decay_slopes else "undecayed"]
        return ", ".join([*parts, f"seed {self.seed}"])

    def trainer(self, device):
        """The program that trains it, which is also its CMake target."""
        clean = "_clean" if self.recipe == "clean" else ""
        return f"train_{self.shape}_{self.config}{clean}{DEVICE_SUFFIX[device]}"


def _spec(shape, config, context, seed, recipe, rate_factor=1, decay_slopes=None):
    if CONFIGURATIONS[config].learnable and decay_slopes is None:
        decay_slopes = recipe == "paper"
    return Spec(shape, config, context, seed, recipe, rate_factor, decay_slopes)


def grid(experiments, scale, recipe, seeds, configs=PAPER_CONFIGS):
    """The runs that these experiments need, each once, seed by seed. `configs` are those of the perplexity
    and the stability experiment."""
    scale = SCALES[scale]
    configs = [config for config in CONFIGURATIONS if config in configs]
    specs = []
    for seed in seeds:
        if "perplexity" in experiments:
            specs += [_spec(scale.shape, config, 128, seed, recipe) for config in configs]
        if "slopes" in experiments:
            specs += [
                _spec(scale.shape, config, 128, seed, recipe, decay_slopes=decayed)
                for config in SLOPE_CONFIGS
                for decayed in (True, False)
            ]
        if "pythia" in experiments:
            specs += [
                _spec(scale.pythia, config, context, seed, recipe)
                for context in PYTHIA_CONTEXTS
                for config in PAPER_CONFIGS
            ]
        if "stability" in experiments:
            specs += [
                _spec(scale.shape, config, 128, seed, recipe, factor)
                for factor in RATE_FACTORS
                for config in configs
            ]
    return list(dict.fromkeys(specs))


def recipe_of(spec, scale, windows, device="cpu"):
    """All options of the trainer that decide a run's result; `windows` of training data for an epoch."""
    scale = SCALES[scale]
    options = scale.batch[device] | scale.optimization
    options["learning_rate"] *= spec.rate_factor
    options |= {"dropout": 0.0 if spec.recipe == "clean" else 0.1, "context": spec.context, "seed": spec.seed}
    if spec.decay_slopes is not None:
        options["decay_slopes"] = spec.decay_slopes
    shorter = 1 if scale.steps is None else spec.context / 128
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
