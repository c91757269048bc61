"""Each configuration at its own best learning rate.

The rate is found among multiples of the shape's with one seed, by the loss on the first half of the held-out files;
what it is worth is told by the second half. Rates lie a factor of 2 apart. Where the best of those tried is the largest
or the smallest, the next one is tried as well.
"""

import math
from dataclasses import replace

ORDER = 20
HELP = "each of the four at its own best learning rate"
BEYOND = True
IN_HALVES = True

FIRST_FACTORS = (1, 2, 4)
LEAST, LARGEST = 1 / 16, 64
# The seed that the rate is found with, whichever are compared.
SEED = 0


def search(loss_of):
    """(factors tried or to be tried, the best of them or None while losses are missing). `loss_of(factor)` is
    infinite for a run that diverged, None for one that has not ended."""
    factors = list(FIRST_FACTORS)
    while True:
        losses = {factor: loss_of(factor) for factor in factors}
        if None in losses.values():
            return factors, None
        best = min(factors, key=losses.get)
        if best == factors[-1] and best < LARGEST:
            factors.append(2 * best)
        elif best == factors[0] and best > LEAST:
            factors.insert(0, best / 2)
        else:
            return factors, best if math.isfinite(losses[best]) else None


def grid(request):
    first = replace(request, seed=SEED)
    specs = []
    for config in request.configs:
        factors, best = search(lambda factor: request.selection_loss(first.spec(config, rate_factor=factor)))
        specs += [first.spec(config, rate_factor=factor) for factor in factors]
        specs += [request.spec(config, rate_factor=factor) for factor in (1, best) if factor is not None]
    return specs


def section(chapter):
    return []
