"""Tests the program bench_zeros with a tiny model whose zeros NumPy counts: test_zeros.py BENCH_ZEROS"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "parity"))

from formats import write_safetensors, write_shard

PROGRAM = Path(sys.argv.pop(1)).resolve()
LAYERS, WIDTH, HIDDEN, CONTEXT, VOCABULARY, WINDOWS = 2, 8, 32, 16, 20, 3
CONFIG = {
    "model_type": "lnfree", "n_layer": LAYERS, "n_head": 2, "n_embd": WIDTH, "n_inner": HIDDEN, "n_positions": CONTEXT,
    "vocab_size": VOCABULARY, "activation_function": "relu", "norm": "identity", "final_norm": "identity",
}  # fmt: skip


def random_model(random):
    """Tensors of a model whose attention adds nothing to the stream."""

    def normal(*shape):
        return random.normal(size=shape).astype(numpy.float32)

    tensors = {"wte.weight": normal(VOCABULARY, WIDTH), "wpe.weight": normal(CONTEXT, WIDTH)}
    for layer in range(LAYERS):
        tensors |= {
            f"h.{layer}.attn.c_attn.weight": normal(WIDTH, 3 * WIDTH),
            f"h.{layer}.attn.c_attn.bias": normal(3 * WIDTH),
            f"h.{layer}.attn.c_proj.weight": 0 * normal(WIDTH, WIDTH),
            f"h.{layer}.attn.c_proj.bias": 0 * normal(WIDTH),
            f"h.{layer}.mlp.c_fc.weight": normal(WIDTH, HIDDEN),
            f"h.{layer}.mlp.c_fc.bias": normal(HIDDEN) - layer,
            f"h.{layer}.mlp.c_proj.weight": normal(HIDDEN, WIDTH),
            f"h.{layer}.mlp.c_proj.bias": normal(WIDTH),
        }
    return tensors


def zeros_by_layer(tensors, tokens):
    """The share of hidden units that are 0, counted from the formula x + relu(x W1 + b1) W2 + b2."""
    stream = tensors["wte.weight"][tokens] + tensors["wpe.weight"]
    shares = []
    for layer in range(LAYERS):
        weights = {name.split(".", 2)[2]: value for name, value in tensors.items() if name.startswith(f"h.{layer}.")}
        hidden = numpy.maximum(stream @ weights["mlp.c_fc.weight"] + weights["mlp.c_fc.bias"], 0)
        shares.append(numpy.mean(hidden == 0))
        stream = stream + hidden @ weights["mlp.c_proj.weight"] + weights["mlp.c_proj.bias"]
    return shares


class Zeros(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        random = numpy.random.default_rng(1)
        self.tensors = random_model(random)
        self.tokens = random.integers(0, VOCABULARY, (WINDOWS, CONTEXT))
        self.checkpoint = self.folder / "checkpoint"
        self.checkpoint.mkdir()
        self.configure()
        write_safetensors(self.checkpoint / "model.safetensors", self.tensors)
        write_shard(self.folder / "val.bin", self.tokens.ravel())

    def configure(self, **changes):
        (self.checkpoint / "config.json").write_text(json.dumps(CONFIG | changes))

    def run_program(self, *options):
        arguments = [PROGRAM, "--data", self.folder / "val.bin", "--skip-gpt2", *options]
        return subprocess.run(arguments, capture_output=True, text=True, cwd=self.folder, check=False)

    def measured(self, *options):
        """The results of the checkpoint in the JSON file."""
        run = self.run_program("--checkpoint", self.checkpoint, "--json", "zeros.json", *options)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        results = json.loads((self.folder / "zeros.json").read_text())
        self.assertEqual(results["threads"], 1)
        (model,) = results["checkpoints"]
        self.assertEqual(model["checkpoint"], str(self.checkpoint))
        self.assertIn("zeros by layer:" + "".join(f" {share:.3f}" for share in model["zeros"]), run.stdout)
        self.assertNotIn("decoding_gpt2", model)
        return model

    def test_zeros_are_counted_and_skipping_them_changes_no_logit(self):
        model = self.measured()
        expected = zeros_by_layer(self.tensors, self.tokens)
        self.assertTrue(all(0.2 < share < 0.8 for share in expected), expected)
        numpy.testing.assert_allclose(model["zeros"], expected, rtol=1e-12)
        decoding = model["decoding"]
        self.assertEqual(decoding["largest_difference_of_logits"], 0)
        for name in ("dense_tokens_per_second", "sparse_tokens_per_second", "speedup"):
            self.assertGreater(decoding[name], 0)

    def test_an_activation_without_zeros(self):
        self.configure(activation_function="silu")
        model = self.measured("--texts", "1")
        self.assertEqual(model["zeros"], [0, 0])
        self.assertEqual(model["decoding"]["largest_difference_of_logits"], 0)

    def test_refusals(self):
        checkpoint = ("--checkpoint", self.checkpoint)
        for options, words in (
            ((), "--checkpoint is required"),
            ((*checkpoint, "--texts", "0"), "0 is not a whole number of 1 or more"),
            (("--checkpoint", "nowhere"), "nowhere/config.json"),
            ((*checkpoint, "--data", "nowhere.bin"), "cannot read nowhere.bin"),
            ((*checkpoint, "--json", "nowhere/zeros.json"), "nowhere/zeros.json cannot be written"),
        ):
            with self.subTest(options=options):
                run = self.run_program(*options)
                self.assertEqual((run.returncode, run.stderr.count("\n")), (1, 1), run.stderr)
                self.assertIn(words, run.stderr)
        self.configure(vocab_size=VOCABULARY + 1)
        run = self.run_program(*checkpoint)
        self.assertEqual((run.returncode, run.stderr.count("\n")), (1, 1), run.stderr)
        self.assertIn("wte.weight", run.stderr)


if __name__ == "__main__":
    unittest.main()
