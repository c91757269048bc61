"""How much is trained: the scales of --scale."""

from dataclasses import dataclass, field

from configurations import SHAPES


# Tokens of a window, where an experiment says nothing else.
CONTEXT = 128


@dataclass(frozen=True)
class Scale:
    """Shapes are trained as configurations.def says. `steps` and every ..._every are optimizer steps at CONTEXT
    tokens a window; with longer windows they are as many fewer as the windows are longer, so that the tokens
    stay the same."""

    shape: str
    pythia: str
    every: dict  # after how many steps the trainer does what
    corpus: dict  # options of prepare_corpus, the same for every seed
    steps: int | None = None  # None: one epoch of the corpus
    threads: int = 1  # of a trainer; 0: all cores for one trainer at a time
    corpus_own: dict = field(default_factory=dict)  # what of `corpus` is different with --corpus
    training: dict = field(default_factory=dict)  # what of the shape's training is different
    sources: str = "small"  # the set of packages that fetch_corpus.sh fetches where there is no --corpus
    held_out_packages: tuple = ()  # those of them that are kept for evaluation, instead of a share of all files


# reproduce.sh finds the names here, too.
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
        # 100 million tokens in the paper's batches. The paper warms up over 1,600 steps; where the rate rises within
        # 5 % of these, models without a norm diverge.
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
        # Of a corpus like the paper's, its 2,000 files of 602,000.
        corpus_own={"held_out": 0.0033},
    ),
}
CORPUS_SEED = 0
