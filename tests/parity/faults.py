"""Checks that the comparison with PyTorch detects faults of realistic size.

    faults.py PARITY_DUMP [--seed N]

Each fault is injected into the oracle instead of the C++, which is equivalent. The true program must then
breach a bound of the true oracle. Prints by how many times, and exits with 1 if a fault is not detected.

Not among them: the 1e-6 that clipping adds to the norm. It scales a whole gradient by less than a millionth,
and after AdamW's division by the gradient's size that is less than a rounding of the weights.
"""

import argparse
import math
import sys
from collections import namedtuple
from pathlib import Path
from unittest import mock

import parity
import parity_model
import torch
from parity_model import Model

Fault = namedtuple("Fault", "name configuration part owner attribute make")
FAULTS = []
ATTEMPTS = 3


def fault(configuration, part, owner, attribute):
    """Decorates what takes the place of an attribute of `owner`: a function that gets the true one first. `part` is that of
    the comparison which must detect it."""

    def register(replacement):
        def make(true):
            return lambda *arguments, **options: replacement(true, *arguments, **options)

        FAULTS.append(Fault(replacement.__name__.replace("_", " "), configuration, part, owner, attribute, make))
        return replacement

    return register


def with_gradient_scaled(x, scale):
    return x * scale - x.detach() * (scale - 1)


@fault("sm_ln_g", "first_pass", Model, "_scores")
def scores_of_one_head_scaled_by_1_001(true, self, q, k):
    return true(self, q, k) * torch.tensor([1.0, 1.001, 1.0, 1.0], dtype=q.dtype)[:, None, None]


@fault("sm_ln_g", "first_pass", Model, "_scores")
def one_head_sees_the_key_behind(true, self, q, k):
    scores = true(self, q, k)
    nearer = true(self, q, k.roll(-1, dims=2)).diagonal(dim1=2, dim2=3)[..., :-1]  # of query t with key t + 1
    ahead = torch.diag_embed(nearer, offset=1)
    shows = torch.diag_embed(torch.ones(q.shape[2] - 1, dtype=torch.bool), offset=1) & (torch.arange(4) == 3)[:, None, None]
    return torch.where(shows, ahead, scores)


@fault("sm_ln_g", "first_pass", Model, "_layer_norm")
def epsilon_of_one_layer_norm_1e_6(true, self, name, x):
    if name != "h.1.ln_2":
        return true(self, name, x)
    w = self.weights
    return torch.nn.functional.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], eps=1e-6)


@fault("sm_ln_g", "first_pass", Model, "_layer_norm")
def final_norm_without_its_mean(true, self, name, x):
    if name != "ln_f":
        return true(self, name, x)
    return x / (x.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * self.weights["ln_f.weight"] + self.weights["ln_f.bias"]


@fault("sm_ln_g", "first_pass", Model, "_embedding")
def positions_shifted_by_one(true, self, tokens):
    return self.weights["wte.weight"][tokens] + self.weights["wpe.weight"][1 : tokens.shape[1] + 1]


@fault("sm_ln_g", "first_pass", Model, "_target_losses")
def mean_loss_over_T_instead_of_its_targets(true, self, logits, tokens):
    return true(self, logits, tokens) * (tokens.shape[1] - 1) / tokens.shape[1]


@fault("sm_g", "first_pass", Model, "_activation")
def gelu_by_tanh(true, self, layer, x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@fault("sm_g", "first_pass", Model, "_activation")
def backward_pass_of_one_activation_scaled_by_1_001(true, self, layer, x):
    y = true(self, layer, x)
    return with_gradient_scaled(y, 1.001) if layer == 1 else y


@fault("sm_leaky_layerwise", "first_pass", Model, "_activation")
def gradient_of_a_learned_slope_scaled_by_1_001(true, self, layer, x):
    name = "h.1.mlp.act.slope"
    with mock.patch.dict(self.weights, {name: with_gradient_scaled(self.weights[name], 1.001)}):
        return true(self, layer, x)


@fault("sm_leaky_global", "first_pass", Model, "_activation")
def one_layer_leaves_out_its_part_of_the_shared_slopes_gradient(true, self, layer, x):
    slope = self.weights["act.slope"]
    with mock.patch.dict(self.weights, {"act.slope": slope.detach() if layer == 2 else slope}):
        return true(self, layer, x)


@fault("pythia_ln_g", "first_pass", parity_model, "rotated")
def rotary_channels_paired_side_by_side(true, x, dims):
    order = torch.tensor([*range(0, dims, 2), *range(1, dims, 2), *range(dims, x.shape[-1])])
    return true(x[..., order], dims)[..., order.argsort()]


@fault("pythia_ln_g", "first_pass", Model, "_linear")
def one_bias_left_out(true, self, name, x):
    return true(self, name, x) - (self.weights[name + ".bias"] if name == "h.2.mlp.c_fc" else 0)


@fault("sm_rms_g", "first_pass", torch, "rsqrt")
def rms_norms_with_the_epsilon_of_layer_norm(true, x):
    return true(x + (1e-5 - 1e-6))


@fault("sm_derf_g", "first_pass", Model, "_norm")
def shift_of_one_norm_left_out(true, self, name, x, kind):
    without = {"h.1.ln_1.shift": 0 * self.weights["h.1.ln_1.shift"]} if name == "h.1.ln_1" else {}
    with mock.patch.dict(self.weights, without):
        return true(self, name, x, kind)


@fault("sm_ln_g_tapered", "first_pass", Model, "_removed_norm")
def bias_of_a_half_closed_norm_stays(true, self, name, x):
    w = self.weights
    return true(self, name, x) + (1 - w[name + ".gate"]) * w[name + ".bias"]


@fault("sm_ln_g_tapered", "trained", parity_model.Removal, "gate")
def gates_one_step_late(true, self, name, step):
    return true(self, name, step - 1)


@fault("sm_ln_g_tapered", "trained", parity_model.Removal, "measured")
def scale_of_a_taper_as_a_mean_of_inverses(true, self, variances, inverses):
    return inverses.mean()


@fault("sm_ln_g_staged", "trained", parity_model.Removal, "gate")
def values_lose_their_norm_with_queries_and_keys(true, self, name, step):
    return true(self, name.removesuffix("_v"), step)


@fault("sm_ln_g_staged", "first_pass", Model, "_attention")
def values_from_the_norm_of_queries_and_keys(true, self, h, x, of_values=None):
    return true(self, h, x, x + 0 * of_values)


@fault("sm_ln_r_tapered", "first_pass", Model, "spread_penalty")
def spread_penalty_scaled_by_1_01(true, self):
    return 1.01 * true(self)


@fault("clean_tapered", "first_pass", Model, "anchor_penalty")
def anchor_penalty_scaled_by_1_01(true, self):
    return 1.01 * true(self)


@fault("clean_tapered", "trained", Model, "move_anchor")
def anchor_that_never_moves(true, self, step):
    return None


@fault("clean_tapered", "trained", parity_model.Removal, "gate")
def final_norm_that_stays(true, self, name, step):
    return 1.0 if name == "ln_f" else true(self, name, step)


@fault("sm_entropy_g", "first_pass", Model, "penalty")
def entropy_penalty_scaled_by_1_001(true, self, attention_weights):
    return 1.001 * true(self, attention_weights)


@fault("sm_r_distilled", "first_pass", Model, "divergence")
def divergence_without_the_square_of_the_temperature(true, self, logits, tokens):
    return true(self, logits, tokens) / parity_model.TEACHER_TEMPERATURE**2


@fault("sm_r_distilled", "first_pass", Model, "distance_of_streams")
def distance_of_streams_scaled_by_1_01(true, self):
    return 1.01 * true(self)


@fault("sm_r_sparse", "first_pass", Model, "hidden_penalty")
def hidden_penalty_scaled_by_1_01(true, self):
    return 1.01 * true(self)


@fault("sm_entropy_g", "first_pass", parity, "head_entropies")
def entropies_without_their_first_query(true, weights):
    return true(weights) * weights.shape[2] / (weights.shape[2] - 1)


@fault("dropout_ln_g", "first_pass", Model, "_dropout")
def dropout_without_its_scale(true, self, x, step):
    return true(self, x, step) * (1 - self.configuration.dropout)


@fault("dropout_ln_g", "first_pass", parity_model, "dropout_numbers")
def dropout_of_the_pass_behind(true, number, count):
    return true(number + 1, count)


@fault("sm_ln_g", "trained", torch.optim, "AdamW")
def beta1_0_89(true, parameters, **options):
    return true(parameters, **options | {"betas": (0.89, 0.999)})


@fault("sm_ln_g", "trained", torch.optim, "AdamW")
def beta2_0_99(true, parameters, **options):
    return true(parameters, **options | {"betas": (0.9, 0.99)})


@fault("sm_ln_g", "trained", torch.optim, "AdamW")
def epsilon_of_adamw_1e_7(true, parameters, **options):
    return true(parameters, **options | {"eps": 1e-7})


@fault("sm_ln_g", "trained", parity_model, "is_decayed")
def decay_of_a_bias(true, name):
    return true(name) or name == "h.1.attn.c_attn.bias"


@fault("sm_ln_g", "trained", parity_model, "is_decayed")
def no_decay_of_one_matrix(true, name):
    return true(name) and name != "h.2.mlp.c_proj.weight"


@fault("sm_ln_g", "trained", parity_model, "learning_rate")
def adamw_without_bias_correction(true, step, *options):
    return true(step, *options) * (1 - 0.9 ** (step + 1)) / math.sqrt(1 - 0.999 ** (step + 1))


@fault("sm_ln_g", "trained", parity_model, "learning_rate")
def schedule_one_step_ahead(true, step, *options):
    return true(step + 1, *options)


@fault("sm_derf_g", "trained", torch.nn.utils, "clip_grad_norm_")
def no_clipping(true, parameters, bound):
    return true(parameters, math.inf)


@fault("sm_derf_g", "trained", torch.nn.utils, "clip_grad_norm_")
def clipping_to_a_norm_of_1_01(true, parameters, bound):
    return true(parameters, 1.01 * bound)


@fault("muon_ln_g", "trained", parity_model, "orthogonal")
def four_iterations_of_newton_and_schulz(true, matrix):
    return true(matrix, iterations=4)


@fault("muon_ln_g", "trained", parity_model, "orthogonal")
def steps_of_muon_scaled_by_1_001(true, matrix):
    return true(matrix) * 1.001


@fault("muon_ln_g", "trained", parity_model.Muon, "step")
def momentum_of_muon_0_94(true, self, rate):
    with mock.patch.object(parity_model.Muon, "MOMENTUM", 0.94):
        true(self, rate)


@fault("muon_ln_g", "trained", parity_model, "is_matrix_of_a_block")
def one_matrix_by_adamw(true, name):
    return true(name) and name != "h.1.mlp.c_fc.weight"


class Case:
    """One part of the comparison with the true program."""

    def __init__(self, configuration, part, attempt, options):
        self.oracle = parity.Oracle(options.cases[configuration], parity.STEPS, options.seed + attempt)
        self.run = getattr(self.oracle, part)
        _, self.bounds = self.oracle.result_and_bounds(self.run, parity.FLOAT)
        first_pass, trained = parity.run_program(options.program.resolve(), self.oracle)
        self.found = {"first_pass": first_pass, "trained": trained}[part]

    def ratios(self, f):
        """Each error as a multiple of its bound, when the oracle has the fault."""
        with mock.patch.object(f.owner, f.attribute, f.make(getattr(f.owner, f.attribute))):
            faulty = self.oracle.result(self.run)
        return {key: error / self.bounds[key] for key, error in self.found.errors(faulty).items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help="the parity_dump program")
    parity.add_seed(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"seed {options.seed}")

    options.cases = parity.cases_of(options.program.resolve())
    cases = {}
    unseen = []
    for f in FAULTS:
        # If something is at its kink, the bounds are wide, so other weights are drawn.
        for attempt in range(ATTEMPTS):
            key = f.configuration, f.part, attempt
            if key not in cases:
                cases[key] = Case(*key, options)
            ratios = cases[key].ratios(f)
            worst = max(ratios, key=ratios.get)
            if ratios[worst] > 1:
                break
        else:
            unseen.append(f)
        print(f"{ratios[worst]:>10.3g}  {f.configuration:<18} {f.name}: {' of '.join(filter(None, worst))}")
    for f in unseen:
        print(f"faults.py: {f.configuration} does not see this fault: {f.name}", file=sys.stderr)
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
