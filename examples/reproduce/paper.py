"""What the paper reports (tables 2 and 3, figure 2a), to be held against."""

# Evaluation perplexity and its change in % as printed, by configuration.
GPT2 = {"sm_ln_g": (2.688, 0.00), "sm_ln_r": (2.757, 2.53), "sm_g": (3.197, 18.92), "sm_r": (2.936, 9.20)}
PYTHIA = {
    128: {"sm_ln_g": (3.512, 0.00), "sm_ln_r": (3.590, 2.22), "sm_g": (4.086, 16.35), "sm_r": (3.736, 6.36)},
    256: {"sm_ln_g": (3.054, 0.00), "sm_ln_r": (3.107, 1.73), "sm_g": (3.570, 16.87), "sm_r": (3.273, 7.17)},
}
# % of heads by quarter of the largest head entropy, GPT-2.
QUARTERS = {
    "sm_ln_g": (4, 14, 74, 8),
    "sm_ln_r": (6, 16, 74, 3),
    "sm_g": (1, 18, 23, 58),
    "sm_r": (3, 20, 53, 24),
}
# What it says of learnable slopes.
SLOPES = {
    "layerwise": "early layers first learn positive slopes, deeper ones negative; later all come to about "
    "zero",
    "global": "the slope first goes positive, then comes to about zero",
}


def change(table, config, reference):
    """How far one configuration's perplexity lies above another's in %."""
    return 100 * ((100 + table[config][1]) / (100 + table[reference][1]) - 1)
