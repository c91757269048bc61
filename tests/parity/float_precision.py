"""How precise float is for a case: the oracle in float compared with itself in double.

The effect of rounding depends on the weights and windows: sums cancel, hidden units are near ReLU's kink,
AdamW turns gradients that are hardly more than rounding into full steps. All of that also happens in PyTorch
in float, so its difference from double shows how large the error of a correct program may be. A single
difference may be small by luck, so several are taken, with weights that differ only by rounding.
"""

import numpy
import torch

from parity_model import Model, is_setting

# Numbers closer to their kink than this multiple of their row's mean error in float may be on either side.
REACH_OF_KINKS = 6


def rounded_otherwise(weights, random):
    """The weights, each off by up to a unit in its last place; settings, whose exact values matter, are
    unchanged."""
    unit = numpy.finfo(numpy.float32).eps
    return {
        name: value if is_setting(name) else (value * (1 + unit * random.uniform(-1, 1, value.shape))).astype(numpy.float32)
        for name, value in weights.items()
    }


def other_sides(exact, rounded):
    """For each kink that two models met: which numbers may be on either side of it, and the opposite side."""
    sides = []
    for there, here in zip(exact.distances, rounded.distances):
        reach = REACH_OF_KINKS * (here - there).square().mean(dim=-1, keepdim=True).sqrt()
        sides.append((there.abs() < reach, there <= 0))
    return sides


def runs_in_float(run, exact, weights, samples, random):
    """Yields what run(model) returns for `samples` models in float; `exact` is the model in double for which it was
    called before. The first has the given weights. The others have them rounded differently, and all numbers
    that may be on either side of a kink on the opposite side from `exact`."""
    sides = []
    for sample in range(samples):
        rounded = weights if sample == 0 else rounded_otherwise(weights, random)
        model = Model(exact.shape, exact.configuration, rounded, torch.float32, sides, exact.teacher_weights)
        yield run(model)
        if sample == 0:
            sides = other_sides(exact, model)
