"""Where the numbers of a report come from, and what they can show: scale, recipe, corpus."""

import math

from text import names, table

SCALE_NOTES = {
    "smoke": [
        "**Only that the whole path works**, from the corpus to the figures. These models have had less than "
        "a hundredth of the demo's training: attention has not left its near-uniform start, and the order of "
        "the perplexities means nothing."
    ],
    "demo": [
        "The following statements about other runs come from trials of this recipe in PyTorch, one to three seeds each.",
        "Perplexities compare these configurations with each other, never with the paper's: model, tokenizer, "
        "corpus and held-out files differ. The changes in % can be compared with "
        "the paper's.",
        "Eight layers of width 64 and eight million tokens are about the minimum that shows the paper's whole "
        "table. In shorter runs SM + R is ahead of both LayerNorm models: their lead needs the "
        "length.",
        "GELU against ReLU *with* LayerNorm is within the noise between seeds: in short runs the order of the "
        "two varies from seed to seed, with differences of up to 2 %. GELU against ReLU *without* LayerNorm "
        "is not: ReLU won by 3 to 12 % in every setting that was trained long enough.",
        "Layer 0 does not separate the configurations, here or in longer runs. All heads without LayerNorm "
        "start near uniform attention and leave it during training, with ReLU first; so entropies are "
        "informative only after enough training.",
        "One run per configuration and seed: for a claim, run several seeds (--seeds).",
    ],
    "gpt2_100m": [
        "Model, batch, learning rate and optimizer are the paper's; the corpus, its tokenizer and the length are "
        "not: 100 million tokens instead of 2.1 billion. The changes in % can be compared with the paper's.",
        "The warm-up is 30 % of the steps instead of 5 %, that is 458 steps instead of the paper's 1,600: "
        "with 5 %, or 76 steps, models without a norm diverge.",
    ],
    "gpt2": [
        "Model, batch, schedule and optimizer are the paper's; the corpus is CodeParrot only if you gave "
        "that, and the tokenizer is trained on your corpus. With CodeParrot the perplexities themselves can "
        "be compared with the paper's, otherwise only the changes in %."
    ],
}


def corpus_section(corpus):
    """Where the corpus comes from, and how it was prepared."""
    parts = [f"{corpus['input']}."]
    packages = (corpus.get("sources") or {}).get("packages") or []
    if packages:
        rows = [
            [
                str(package.get("package", "?")),
                str(package.get("version", "?")),
                *(
                    f"{package[key]:,}" if isinstance(package.get(key), int) else "?"
                    for key in ("files", "bytes")
                ),
            ]
            for package in packages
        ]
        parts.append(table(["Package", "version", "files", "bytes"], rows))
    prepared = corpus["prepared"]
    first = prepared["128"]
    seen = first["documents"]
    sides = [
        (f"{name}, T = {context}", prepared[context][key])
        for context in sorted(prepared, key=int)
        for name, key in (("training", "train"), ("held-out", "held_out"))
    ]
    rows = [
        [name, *(f"{side[name]:,}" for _, side in sides)]
        for name in ("documents", "bytes", "tokens", "windows")
    ]
    parts += [
        f"{seen['seen']:,} files were read and {seen['kept']:,} kept: {seen['duplicates']:,} duplicates, "
        f"{seen['too_small']:,} too small, {seen['too_large']:,} too large and "
        f"{seen['invalid'] + seen.get('unreadable', 0):,} unreadable ones were left out. Byte-pair encoding "
        f"with {first['vocab_size']:,} pieces, {first['bytes_per_token']:.2f} bytes per token. Training and "
        "held-out data have no file in "
        f"common. A model that knows only the token frequencies has a loss of "
        f"{corpus['unigram_loss']['128']:.3f} nats.",
        table(["Used", *(name for name, _ in sides)], rows),
    ]
    return parts


def option_text(name, value):
    """An option's value in the table of recipes."""
    if name == "init_std" and value == 0:
        return "by width"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def recipe_section(runs):
    """The options of the trainers, by shape, context and recipe, and the time of each run."""
    parts = [
        "The same for every configuration; only the block's norm and the feed-forward activation differ. "
        "AdamW (betas 0.9 and 0.999), linear warm-up and linear decay, gradient norm clipped at 1. The "
        "paper's recipe, that of its code, has a final LayerNorm in every configuration, dropout of the "
        "embeddings and decayed slopes; the clean one, that of its text, has a final norm only where the "
        "blocks have norms, no dropout, and slopes that do not decay unless the experiment says so."
    ]
    kinds = {}
    for run in runs:
        if run.spec.rate_factor == 1 and run.spec.is_bare:
            kinds.setdefault(f"{run.spec.shape}, T {run.spec.context}, {run.spec.recipe}", run.recipe)
    options = [
        name
        for name in dict.fromkeys(name for recipe in kinds.values() for name in recipe)
        if name not in ("seed", "decay_slopes")
    ]
    rows = [
        [name.replace("_", " "), *(option_text(name, recipe.get(name)) for recipe in kinds.values())]
        for name in options
    ]
    if kinds:
        parts.append(table(["Recipe", *kinds], rows))
    cost = [
        [
            run.spec.label,
            f"{run.parameters:,}",
            f"{run.tokens:,}",
            f"{run.tokens_per_second:,.0f}" if math.isfinite(run.tokens_per_second) else "n/a",
            f"{run.seconds:,.0f}",
        ]
        for run in runs
    ]
    devices = dict.fromkeys(run.device for run in runs if run.device)
    parts.append(f"Trained on {names(devices)}." if devices else "")
    parts.append(table(["Run", "parameters", "tokens trained", "tokens/s", "seconds"], cost))
    return parts
