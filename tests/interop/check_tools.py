"""Tests exported models in lm-evaluation-harness and TransformerLens.

    check_tools.py CONVERT INTEROP_MODELS PARITY_DUMP [unittest's options]

Runs in the environment of run.sh. lm_eval's log-likelihoods on a task from a local file, and TransformerLens' logits and
entropies, are compared with lnfree's.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

home = tempfile.TemporaryDirectory()
os.environ |= {
    "HF_HOME": home.name, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"
}

import lm_eval
import numpy
import torch
from convert_program import ConvertTest, config_of, main
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "parity"), str(TESTS.parent / "examples/interop")]
from formats import write_safetensors, write_shard
from parity import WINDOWS_PER_STEP, Oracle, cases_of
from parity_model import head_entropies
from to_transformer_lens import ModelError, load_model

PARITY_DUMP = Path(sys.argv.pop(3)).resolve()
TASK = """\
task: local_choices
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: choices
doc_to_target: label
metric_list:
  - metric: acc
"""


class Tools(ConvertTest):
    def test_lm_eval(self):
        """The log-likelihood of every choice of every document."""
        random = numpy.random.default_rng(3)
        for case in ("paper", "slopes", "sandwich"):
            with self.subTest(case):
                ours = self.written(case)
                there = self.converted(ours, f"there_{case}", "--format", "hf")
                size = config_of(ours)["vocab_size"]
                words = Tokenizer(WordLevel({f"t{i}": i for i in range(size)}, unk_token="t0"))
                words.pre_tokenizer = Whitespace()
                PreTrainedTokenizerFast(tokenizer_object=words, eos_token="t0", pad_token="t0").save_pretrained(there)
                documents = [random.integers(1, size, (3, 3)).tolist() for _ in range(4)]
                lines = [
                    {
                        "text": " ".join(f"t{i}" for i in text),
                        "choices": [" ".join(f"t{i}" for i in choice) for choice in choices],
                        "label": 0,
                    }
                    for text, *choices in documents
                ]
                data = self.folder / f"{case}.jsonl"
                data.write_text("".join(json.dumps(line) + "\n" for line in lines))
                tasks = self.folder / f"tasks_{case}"
                tasks.mkdir()
                (tasks / "task.yaml").write_text(TASK.format(data=data))
                results = lm_eval.simple_evaluate(
                    model="hf",
                    model_args=f"pretrained={there},trust_remote_code=True,dtype=float32,device=cpu",
                    tasks=["local_choices"],
                    task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
                    log_samples=True,
                    bootstrap_iters=0,
                )
                samples = results["samples"]["local_choices"]
                self.assertEqual(len(samples), len(documents))
                for sample in samples:
                    text, *choices = documents[sample["doc_id"]]
                    for choice, ((found, _),) in zip(choices, sample["resps"]):
                        logits = torch.tensor(self.logits(ours, text + choice), dtype=torch.float64)
                        rows = torch.log_softmax(logits, dim=-1)[len(text) - 1 : -1]
                        expected = rows.gather(1, torch.tensor(choice)[:, None]).sum().item()
                        self.assertLess(abs(float(found) - expected), 1e-4 * (1 + abs(expected)))

    def test_transformer_lens_logits(self):
        tokens = [3, 1, 4, 1, 5, 9, 2, 6]
        for case in ("gpt2", "gpt2_untied", "neox", "neox_sequential", "paper", "slopes", "global_slope"):
            with self.subTest(case):
                ours = self.written(case)
                found = load_model(ours)(torch.tensor([tokens]))[0].double()
                expected = torch.tensor(self.logits(ours, tokens), dtype=torch.float64)
                self.assertLess((found - expected).abs().max().item(), 1e-5 * (1 + expected.abs().max().item()))
        for case in ("post_norm", "sandwich", "dyt", "derf"):
            with self.assertRaisesRegex(ModelError, "TransformerLens has only"):
                load_model(self.written(case))

    def test_transformer_lens_entropies(self):
        """The entropy of every head, compared with lnfree's observer."""
        cases, listed = cases_of(PARITY_DUMP), subprocess.run([PARITY_DUMP, "--list"], capture_output=True, check=True)
        for name in ("sm_ln_g", "sm_r", "clean", "sm_leaky_layerwise", "sm_relu_gelu", "pythia_r"):
            with self.subTest(name):
                oracle = Oracle(cases[name], 1, 5)
                folder = self.folder / name
                folder.mkdir()
                write_safetensors(folder / "model.safetensors", oracle.weights)
                write_shard(folder / "tokens.bin", oracle.windows.reshape(-1).numpy())
                (folder / "config.json").write_text(json.dumps(json.loads(listed.stdout)[name]["architecture"]))
                subprocess.run([PARITY_DUMP, name, folder], check=True)
                expected = torch.tensor(json.loads((folder / "result.json").read_text())["head_entropy"])
                _, cache = load_model(folder).run_with_cache(oracle.windows[:WINDOWS_PER_STEP])
                found = torch.stack(
                    [head_entropies(cache["pattern", layer].double()).mean(dim=(0, 2)) for layer in range(len(expected))]
                )
                self.assertLess((found - expected).abs().max().item(), 1e-4)


if __name__ == "__main__":
    main()
