"""The scales of --scale: how much is trained."""

from dataclasses import dataclass, field

from configurations import SHAPES


# Tokens in a window, unless an experiment sets another number.
CONTEXT = 128


@dataclass(frozen=True)
class Scale:
    """Shapes are trained as in configurations.def. `steps` and every ..._every are optimizer steps with
    windows of CONTEXT tokens; with longer windows there are proportionally fewer, so that the number of
    tokens is the same."""

    shape: str
    pythia: str
    every: dict  # intervals of the trainer's actions, in steps
    corpus: dict  # options of prepare_corpus, the same for every seed
    steps: int | None = None  # None: one epoch of the corpus
    threads: int = 1  # of a trainer; 0: all cores for one trainer at a time
    corpus_own: dict = field(default_factory=dict)  # differences from `corpus` with --corpus
    training: dict = field(default_factory=dict)  # differences from the shape's training
    sources: str = "small"  # the set of packages that fetch_corpus.sh fetches without --corpus
    held_out_packages: tuple = ()  # packages held out for evaluation, instead of a share of all files


# reproduce.sh also reads the names here.
SCALES = {
    "smoke": Scale(
        "demo",
        "pythia_demo",
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
        {"eval_every": 488, "observe_every": 61, "log_every": 10, "checkpoint_every": 250},
        {"vocab_size": 4096, "held_out": 0.03},
        steps=SHAPES["demo"].training["steps"],
    ),
    "gpt2_100m": Scale(
        "gpt2",
        "pythia_70m",
        {"eval_every": 300, "observe_every": 50, "log_every": 1, "checkpoint_every": 500},
        {"vocab_size": 50_000, "tokenizer_sample_bytes": 40_000_000},
        # 100 million tokens in the paper's batches. The paper warms up over 1,600 steps; with a warm-up of 5
        # % of these steps, models without a norm diverge.
        steps=1526,
        training={"warmup_ratio": 0.3},
        threads=0,
        corpus_own={"held_out": 0.0033},
        sources="scientific",
        held_out_packages=("lmfit", "photutils", "seaborn", "skbio", "xarray"),
    ),
    "gpt2": Scale(
        "gpt2",
        "pythia_70m",
        {"eval_every": 500, "observe_every": 100, "log_every": 1, "checkpoint_every": 100},
        {"vocab_size": 50_000, "held_out": 0.03},
        threads=0,
        # For a corpus like the paper's: its 2,000 files of 602,000.
        corpus_own={"held_out": 0.0033},
    ),
}
CORPUS_SEED = 0
