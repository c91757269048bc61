"""The model that the benchmarks time in PyTorch is the paper's: its loss and gradients are compared with the
oracle's."""

import sys
import unittest
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "tests/parity")]

import parity_model  # noqa: E402
import pytorch_step  # noqa: E402

SHAPE = {"layers": 2, "heads": 3, "width": 12, "vocab": 37, "positions": 130}
NAMES = {"c_attn": "attn.c_attn.weight", "attn_c_proj": "attn.c_proj.weight", "c_fc": "mlp.c_fc.weight",
         "mlp_c_proj": "mlp.c_proj.weight", "query_key_bias": "attn.c_attn.bias"}  # fmt: skip


def oracle_name(name):
    """The checkpoint's name of a parameter of the timed model."""
    if name in ("wte", "wpe"):
        return name + ".weight"
    if not name.startswith("blocks."):
        return name
    _, layer, part = name.split(".", 2)
    return f"h.{layer}.{NAMES.get(part, part)}"


def scaled_dot_product_attention(q, k, v, is_causal):
    """By its definition, for versions of PyTorch without it."""
    assert is_causal
    length = q.shape[-2]
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    return torch.softmax(scores.masked_fill(future, -torch.inf), dim=-1) @ v


if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    torch.nn.functional.scaled_dot_product_attention = scaled_dot_product_attention


class PytorchStep(unittest.TestCase):
    def check(self, configuration, attend, context):
        """Returns the model's entropies, and the oracle's."""
        torch.manual_seed(2)
        timed = pytorch_step.Model(SHAPE, configuration, attend, context).double()
        with torch.no_grad():
            for parameter in timed.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        weights = {}
        for name, parameter in timed.named_parameters():
            value = parameter.detach()
            if name.endswith("query_key_bias"):
                value = torch.cat([value, torch.zeros(SHAPE["width"])])
            weights[oracle_name(name)] = value.numpy()
        shape = parity_model.Shape(SHAPE["layers"], SHAPE["heads"], SHAPE["width"], 4 * SHAPE["width"],
                                   context, SHAPE["vocab"], SHAPE["positions"])  # fmt: skip
        parts = parity_model.Configuration(
            norm="layer_norm" if "_ln_" in configuration else None,
            activation="gelu" if configuration.endswith("_g") else "relu",
        )
        oracle = parity_model.Model(shape, parts, weights)
        tokens = torch.randint(SHAPE["vocab"], (2, context))
        targets = torch.nn.functional.pad(tokens[:, 1:], (0, 1), value=-1)
        (loss, entropies), expected = timed(tokens, targets), oracle.loss(tokens)
        self.assertAlmostEqual(loss.item(), expected.item(), places=10)
        loss.backward()
        expected.backward()
        for name, parameter in timed.named_parameters():
            gradient = oracle.weights[oracle_name(name)].grad[: len(parameter)]
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-11)
        return entropies, oracle.evaluate(tokens)[1]

    def test_loss_and_gradients_are_the_oracles(self):
        for configuration in pytorch_step.CONFIGURATIONS:
            with self.subTest(configuration):
                self.check(configuration, pytorch_step.masked_attention, pytorch_step.CONTEXT)

    def test_as_on_a_gpu(self):
        for configuration in pytorch_step.CONFIGURATIONS:
            with self.subTest(configuration):
                self.check(configuration, pytorch_step.fused_attention, 45)
                entropies, expected = self.check(configuration, pytorch_step.observed_attention, 45)
                torch.testing.assert_close(torch.stack(entropies), expected)


if __name__ == "__main__":
    unittest.main()
