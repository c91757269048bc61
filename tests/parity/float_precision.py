"""What float can know of a case: the oracle in float beside itself in double.

How far rounding carries depends on the weights and windows: sums cancel, hidden units lie next to ReLU's kink, AdamW makes
full steps of gradients that are hardly more than rounding. All of that happens to PyTorch in float as well, so its
difference from double says how far off a sound program may be. One difference may be small by luck. Several are taken,
with weights that are off by what float cannot tell apart.
"""

import numpy
import torch

from parity_model import Model, is_setting

# What lies closer to its kink than so many times the mean error of its row in float may come out on either side.
REACH_OF_KINKS = 6


def rounded_otherwise(weights, random):
    """The weights, each off by up to a unit in its last place; settings, of which 1 may mean something, as they are."""
    unit = numpy.finfo(numpy.float32).eps
    return {
        name: value if is_setting(name) else (value * (1 + unit * random.uniform(-1, 1, value.shape))).astype(numpy.float32)
        for name, value in weights.items()
    }


def other_sides(exact, rounded):
    """For each kink that two models met: what may lie on either side of it, and the side on which it is not."""
    sides = []
    for there, here in zip(exact.distances, rounded.distances):
        reach = REACH_OF_KINKS * (here - there).square().mean(dim=-1, keepdim=True).sqrt()
        sides.append((there.abs() < reach, there <= 0))
    return sides


def runs_in_float(run, exact, weights, samples, random):
    """Yields what run(model) returns for `samples` models in float; `exact` is the model in double for which it was
    called before. The first has the given weights. The others have them rounded otherwise, and all numbers that may lie
    on either side of a kink on the side on which `exact` does not have them."""
    sides = []
    for sample in range(samples):
        rounded = weights if sample == 0 else rounded_otherwise(weights, random)
        model = Model(exact.shape, exact.configuration, rounded, torch.float32, sides, exact.teacher_weights)
        yield run(model)
        if sample == 0:
            sides = other_sides(exact, model)
