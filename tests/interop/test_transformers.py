"""Converts models from transformers to lnfree and back, and from lnfree to transformers.

    test_transformers.py CONVERT INTEROP_MODELS

Both sides compute logits, transformers in double: they agree to 1e-5. Tensors are restored byte by byte.
"""

import importlib.util
import os
import subprocess
import tempfile
import unittest
import unittest.mock
from pathlib import Path

home = tempfile.TemporaryDirectory()  # where transformers copies the code of models
os.environ |= {"HF_HOME": home.name, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import torch
import transformers
from convert_program import ConvertTest, config_of, main, raw_tensors
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
)
from transformers.generation import utils as generation
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
# It imports a part of PyTorch that Debian 12's Python cannot.
generation.is_fsdp_managed_module = lambda module: False
TOLERANCE = 1e-5
TEXTS = ["def f(x):\n    return x + 1\n", "  two  spaces\tand ünïcödé ☃\n\n", " " * 29 + "b"]

# As in interop_models. Sizes differ, so that no axes can be confused.
GPT2 = {"n_layer": 2, "n_head": 3, "n_embd": 12, "n_inner": 48, "n_positions": 9, "vocab_size": 37}
NEOX = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 20,
    "intermediate_size": 41,
    "max_position_embeddings": 11,
    "vocab_size": 29,
    "rotary_pct": 0.45,
}
OTHERS = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**{**GPT2, "n_inner": None})),
    "gpt2_untied": lambda: GPT2LMHeadModel(GPT2Config(**GPT2, activation_function="relu", tie_word_embeddings=False)),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**NEOX)),
    "neox_sequential": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(**NEOX, hidden_act="relu2", use_parallel_residual=False, tie_word_embeddings=True)
    ),
}


def in_double(folder, **options):
    return AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float64, **options).eval()


class Transformers(ConvertTest):
    def theirs(self, case, dtype=torch.float32, **options):
        """A folder with a transformers model, with random numbers in every tensor."""
        torch.manual_seed(7)
        model = OTHERS[case]()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        folder = self.folder / f"theirs_{case}"
        model.to(dtype).save_pretrained(folder, **options)
        return folder

    def check_logits(self, ours, model):
        tokens = torch.randint(0, model.config.vocab_size, (9,)).tolist()
        with torch.no_grad():
            expected = model(torch.tensor([tokens])).logits[0]
        found = torch.tensor(self.logits(ours, tokens), dtype=torch.float64)
        self.assertGreater(expected.std(), 0.1)
        self.assertLess((found - expected).abs().max().item(), TOLERANCE)
        return tokens, expected

    def test_models_of_transformers_go_to_lnfree_and_back(self):
        for case in OTHERS:
            with self.subTest(case):
                theirs = self.theirs(case)
                ours = self.converted(theirs, f"ours_{case}")
                model = in_double(theirs)
                self.check_logits(ours, model)
                self.check_logits(theirs, model)  # load_weights() reads their folder itself
                back = self.converted(ours, f"back_{case}", "--format", "hf")
                self.assertEqual(raw_tensors(back), raw_tensors(theirs))
                self.assertIs(type(in_double(back)), type(model))
                self.check_logits(theirs, in_double(back))
                says, said = config_of(back), config_of(theirs)
                said.pop("bos_token_id"), said.pop("eos_token_id")  # those of another vocabulary
                for key in says.keys() & said.keys() - {"n_inner"}:
                    if key != "rotary_pct":
                        self.assertEqual(says[key], said[key], key)

    def test_models_in_several_files(self):
        for case in ("gpt2", "neox"):
            with self.subTest(case):
                theirs = self.theirs(case, max_shard_size="8KB")
                self.assertGreater(len(list(theirs.glob("model-*.safetensors"))), 1)
                ours = self.converted(theirs, f"ours_{case}")
                self.check_logits(theirs, in_double(theirs))
                back = self.converted(ours, f"back_{case}", "--format", "hf", "--max-shard-size", "8KB")
                self.assertGreater(len(list(back.glob("model-*.safetensors"))), 1)
                self.assertEqual(raw_tensors(back), raw_tensors(theirs))
                self.check_logits(ours, in_double(back))
                again = self.converted(back / "model.safetensors.index.json", f"again_{case}")
                self.assertEqual((again / "model.safetensors").read_bytes(), (ours / "model.safetensors").read_bytes())

    def test_half_precision(self):
        for dtype in (torch.bfloat16, torch.float16):
            with self.subTest(dtype):
                theirs = self.theirs("neox", dtype)
                ours = self.converted(theirs, f"ours_{dtype}")
                self.check_logits(ours, in_double(theirs))
                self.check_logits(theirs, in_double(theirs))
                if dtype == torch.bfloat16:
                    back = self.converted(ours, "back", "--format", "hf", "--dtype", "bfloat16")
                    self.assertEqual(raw_tensors(back), raw_tensors(theirs))
                    self.assertEqual(AutoModelForCausalLM.from_pretrained(back, torch_dtype="auto").dtype, dtype)

    def test_bfloat16_rounds_to_nearest(self):
        theirs = self.theirs("gpt2")
        rounded = self.converted(theirs, "rounded", "--format", "hf", "--dtype", "bfloat16")
        model = GPT2LMHeadModel.from_pretrained(theirs, torch_dtype=torch.float32).to(torch.bfloat16)
        for name, tensor in GPT2LMHeadModel.from_pretrained(rounded, torch_dtype="auto").state_dict().items():
            self.assertTrue(torch.equal(tensor, model.state_dict()[name]), name)

    def test_models_without_their_head(self):
        """AutoModel saves names without a prefix."""
        for case in ("gpt2", "neox_sequential"):
            with self.subTest(case):
                theirs = self.theirs(case)
                ours = self.converted(theirs, f"ours_{case}")
                in_double(theirs).float().base_model.save_pretrained(self.folder / f"bare_{case}")
                bare = self.converted(self.folder / f"bare_{case}", f"ours_bare_{case}")
                self.assertEqual(raw_tensors(bare), raw_tensors(ours))

    def test_models_of_lnfree_go_to_transformers_and_back(self):
        cases = subprocess.run([self.models, "list"], capture_output=True, text=True, check=True).stdout.split()
        self.assertGreater(len(cases), 8)
        for case in cases:
            with self.subTest(case):
                ours = self.written(case)
                there = self.converted(ours, f"there_{case}", "--format", "hf")
                known = "gpt2" if case == "paper_ln" else case  # as which transformers has it
                is_known = known in OTHERS
                self.assertEqual((there / "modeling_lnfree.py").exists(), not is_known)
                if not is_known:
                    with self.assertRaises(ValueError):  # rather than another model of the same tensors
                        AutoConfig.from_pretrained(there, trust_remote_code=False)
                model = in_double(there, trust_remote_code=True)
                self.assertEqual(type(model).__name__, type(OTHERS[known]()).__name__ if is_known else "LnfreeForCausalLM")
                tokens, logits = self.check_logits(ours, model)
                if case == "global_slope":  # the thresholds of its objective stay behind
                    self.assertEqual(raw_tensors(ours).keys() - raw_tensors(there).keys(), {"entropy_threshold"})
                    continue
                back = self.converted(there, f"back_{case}")
                if case == "paper_ln":  # comes back with all biases, and without the rows that are never read
                    self.assertEqual(config_of(back)["biases"], "all")
                    self.assertEqual(raw_tensors(back)["wpe.weight"][1], (9, 12))
                    continue
                self.assertEqual(raw_tensors(back), raw_tensors(ours))
                self.assertEqual(config_of(back), config_of(ours))
                if not is_known:
                    self.check_remote_code(model, tokens, logits, there)

    def test_tokenizer_json_goes_both_ways(self):
        fast = Tokenizer(models.BPE())
        fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        fast.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
        fast.train_from_iterator(TEXTS * 3, trainer)
        for case in ("gpt2", "sandwich"):
            ours = self.written(case)
            fast.save(str(ours / "tokenizer.json"))
            there = self.converted(ours, f"tokenizer_{case}", "--format", "hf")
            opened = AutoTokenizer.from_pretrained(there, trust_remote_code=True)
            for text in TEXTS:
                ids = opened(text, add_special_tokens=False)["input_ids"]
                self.assertEqual(ids, fast.encode(text, add_special_tokens=False).ids)
                self.assertEqual(opened.decode(ids), text)
        # What transformers saved comes along, and once more back.
        theirs = self.theirs("gpt2")
        opened.save_pretrained(theirs)
        ours = self.converted(theirs, "with_tokenizer")
        self.assertEqual((ours / "tokenizer.json").read_bytes(), (theirs / "tokenizer.json").read_bytes())
        back = self.converted(ours, "tokenizer_back", "--format", "hf")
        self.assertEqual(
            (back / "tokenizer_config.json").read_bytes(), (theirs / "tokenizer_config.json").read_bytes()
        )
        self.assertEqual(AutoTokenizer.from_pretrained(back)(TEXTS[0])["input_ids"], opened(TEXTS[0])["input_ids"])

    @unittest.skipUnless(
        int(transformers.__version__.split(".")[0]) >= 5 and importlib.util.find_spec("sentencepiece"),
        "transformers 5 and sentencepiece read a tokenizer.model",
    )
    def test_a_tokenizer_of_sentencepiece_gives_the_same_ids(self):
        import sentencepiece

        code = [Path(file).read_text(errors="ignore") for file in (unittest.case.__file__, unittest.mock.__file__)]
        sentencepiece.SentencePieceTrainer.train(  # as SentencePieceTokenizer of lnfree's does
            sentence_iterator=iter(code), model_prefix=str(self.folder / "trained"), model_type="bpe", vocab_size=900,
            byte_fallback=True, normalization_rule_name="identity", add_dummy_prefix=False,
            remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, max_sentence_length=10**9, bos_id=-1,
            eos_id=-1, minloglevel=2,
        )  # fmt: skip
        tokenizer = self.folder / "trained.model"
        there = self.converted(self.written("sandwich"), "sentencepiece", "--format", "hf", "--tokenizer", tokenizer)
        ours = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
        opened = AutoTokenizer.from_pretrained(there, trust_remote_code=True)
        for text in [*TEXTS, *code, Path(__file__).read_text()]:
            self.assertEqual(opened(text, add_special_tokens=False)["input_ids"], ours.encode(text))

    def check_remote_code(self, model, tokens, logits, folder):
        """Checks what programs based on transformers expect of a model besides its logits."""
        prompt = torch.tensor([tokens[:5]])
        with torch.no_grad():
            # Padding on the left changes nothing.
            padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), prompt], dim=1)
            mask = torch.tensor([[0] * 3 + [1] * 5])
            self.assertLess((model(padded, attention_mask=mask).logits[0, 3:] - logits[:5]).abs().max(), 1e-9)
            output = model(prompt, labels=prompt, output_attentions=True, output_hidden_states=True)
            expected = torch.nn.functional.cross_entropy(logits[:4], prompt[0, 1:])
            self.assertAlmostEqual(output.loss.item(), expected.item(), places=9)
            self.assertEqual(len(output.hidden_states), 3)
            for weights in output.attentions:
                self.assertLess((weights.sum(dim=-1) - 1).abs().max(), 1e-6)
            visible = torch.ones_like(prompt)
            extended = model.generate(prompt, attention_mask=visible, max_new_tokens=3, do_sample=False, pad_token_id=0)
            for position in range(5, 8):
                row = model(extended[:, :position]).logits[0, -1]
                self.assertEqual(extended[0, position], row.argmax())
        # A model saved by transformers is still an lnfree model.
        model.float().save_pretrained(self.folder / "saved")
        saved = self.converted(self.folder / "saved", f"saved_{folder.name}")
        self.assertEqual(raw_tensors(saved), raw_tensors(folder))


if __name__ == "__main__":
    main()
