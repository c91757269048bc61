"""The program convert on model files of llm.c, on lnfree's checkpoints, and on invalid input.

    test_convert.py CONVERT INTEROP_MODELS
"""

import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy
from convert_program import ConvertTest, config_of, main, raw_tensors

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "parity"))
from formats import read_safetensors, write_safetensors

# The case gpt2 of interop_models.
LAYERS, HEADS, WIDTH, CONTEXT, VOCABULARY, PADDED = 2, 3, 12, 9, 37, 128
LLM_C_ORDER = [
    ("ln_1.weight", (WIDTH,)),
    ("ln_1.bias", (WIDTH,)),
    ("attn.c_attn.weight", (3 * WIDTH, WIDTH)),
    ("attn.c_attn.bias", (3 * WIDTH,)),
    ("attn.c_proj.weight", (WIDTH, WIDTH)),
    ("attn.c_proj.bias", (WIDTH,)),
    ("ln_2.weight", (WIDTH,)),
    ("ln_2.bias", (WIDTH,)),
    ("mlp.c_fc.weight", (4 * WIDTH, WIDTH)),
    ("mlp.c_fc.bias", (4 * WIDTH,)),
    ("mlp.c_proj.weight", (WIDTH, 4 * WIDTH)),
    ("mlp.c_proj.bias", (WIDTH,)),
]


def llm_c_tensors(random):
    """name -> array in the order of the file, in the layout of PyTorch's linear layers."""
    tensors = {"wte.weight": (VOCABULARY, WIDTH), "wpe.weight": (CONTEXT, WIDTH)}
    tensors |= {f"h.{layer}.{name}": shape for name, shape in LLM_C_ORDER for layer in range(LAYERS)}
    tensors |= {"ln_f.weight": (WIDTH,), "ln_f.bias": (WIDTH,)}
    return {name: random.normal(0, 0.5, shape).astype("<f4") for name, shape in tensors.items()}


def llm_c_file(tensors, is_bf16=False, **changes):
    """The bytes of a model file."""
    header = [20240326, 5 if is_bf16 else 3, CONTEXT, VOCABULARY, LAYERS, HEADS, WIDTH, PADDED] + [0] * 248
    for position, value in changes.items():
        header[int(position.removeprefix("word_"))] = value
    data = struct.pack("<256i", *header)
    for name, value in tensors.items():
        if name == "wte.weight":
            value = numpy.concatenate([value, numpy.zeros((PADDED - VOCABULARY, WIDTH), "<f4")])
        data += (value.view("<u4") >> 16).astype("<u2").tobytes() if is_bf16 else value.tobytes()
    return data


class Convert(ConvertTest):
    def setUp(self):
        super().setUp()
        self.tensors = llm_c_tensors(numpy.random.default_rng(5))

    def write(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return path

    def rewritten(self, case, change):
        """A checkpoint whose config.json and tensors went through change(config, tensors)."""
        folder = self.written(case)
        config, tensors = config_of(folder), read_safetensors(folder / "model.safetensors")
        change(config, tensors)
        (folder / "config.json").write_text(json.dumps(config))
        write_safetensors(folder / "model.safetensors", tensors)
        return folder

    def test_llm_c_and_back(self):
        for is_bf16 in (False, True):
            with self.subTest(is_bf16=is_bf16):
                if is_bf16:  # numbers that bf16 can represent
                    for value in self.tensors.values():
                        value.view("<u4")[...] &= 0xFFFF0000
                source = self.write("model.bin", llm_c_file(self.tensors, is_bf16))
                ours = self.converted(source, f"ours_{is_bf16}")
                found = read_safetensors(ours / "model.safetensors")
                self.assertEqual(found.keys(), self.tensors.keys())
                for name, value in self.tensors.items():
                    is_turned = name.startswith("h.") and value.ndim == 2
                    numpy.testing.assert_array_equal(found[name], value.T if is_turned else value, name)
                self.assertEqual(config_of(ours)["activation_function"], "gelu_new")
                self.logits(ours, [1, 2, 3])
                options = ["--format", "llmc", "--dtype", "bfloat16" if is_bf16 else "float32"]
                back = self.converted(ours, f"back_{is_bf16}.bin", *options)
                self.assertEqual(back.read_bytes(), source.read_bytes())
                # Through transformers.
                there = self.converted(source, f"there_{is_bf16}", "--format", "hf")
                again = self.converted(there, f"again_{is_bf16}.bin", *options)
                self.assertEqual(again.read_bytes(), source.read_bytes())

    def test_the_paper_s_models_for_llm_c(self):
        """Biases that a model lacks are 0 there, and rows beyond its context are left out."""

        def change(config, tensors):
            config |= {"biases": "query_key", "n_positions": CONTEXT + 3}
            for name in list(tensors):
                if name.endswith(("c_proj.bias", "c_fc.bias")):
                    del tensors[name]
                if name.endswith("c_attn.bias"):
                    tensors[name][2 * WIDTH :] = 0
            tensors["wpe.weight"] = numpy.concatenate([tensors["wpe.weight"], numpy.ones((3, WIDTH), "<f4")])

        ours = self.rewritten("gpt2", change)
        file = self.converted(ours, "model.bin", "--format", "llmc")
        back = self.converted(file, "back")
        found, expected = (read_safetensors(folder / "model.safetensors") for folder in (back, ours))
        for name, value in found.items():
            if name == "wpe.weight":
                expected[name] = expected[name][:CONTEXT]
            numpy.testing.assert_array_equal(value, expected.get(name, 0 * value), name)

    def test_lnfree_to_lnfree(self):
        ours = self.written("derf")
        same = self.converted(ours, "same")
        self.assertEqual((same / "config.json").read_text(), (ours / "config.json").read_text())
        self.assertEqual(raw_tensors(same), raw_tensors(ours))
        # An objective's parameters stay with its model.
        guided = self.written("global_slope")
        self.assertEqual(raw_tensors(self.converted(guided, "guided")), raw_tensors(guided))
        self.assertEqual(config_of(self.folder / "guided"), config_of(guided))
        rounded = self.converted(ours, "rounded", "--dtype", "bfloat16")
        for name, (dtype, shape, data) in raw_tensors(rounded).items():
            self.assertEqual((dtype, len(data)), ("BF16", 2 * int(numpy.prod(shape))))
            exact = read_safetensors(ours / "model.safetensors")[name]
            found = (numpy.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
            self.assertLessEqual(numpy.abs(found - exact).max(), numpy.abs(exact).max() / 256, name)
        self.logits(rounded, [1, 2])
        # The folder of a running trainer's checkpoint, and an empty folder to write to.
        (self.folder / "empty").mkdir()
        shutil.copytree(ours, self.folder / "place.next")
        (self.folder / "place.next/trainer.json").write_text("{}")
        (self.folder / "place").mkdir()
        self.assertEqual(raw_tensors(self.converted(self.folder / "place", "empty")), raw_tensors(ours))

    def test_context(self):
        ours = self.written("gpt2")
        shorter = self.converted(ours, "shorter", "--context", "5")
        self.assertEqual(config_of(shorter), config_of(ours) | {"n_ctx": 5})
        self.assertEqual(raw_tensors(shorter), raw_tensors(ours))
        there = self.converted(shorter, "there", "--format", "hf")
        self.assertEqual(config_of(there)["n_positions"], 5)
        self.assertEqual(raw_tensors(there)["transformer.wpe.weight"][1], (5, WIDTH))
        rotary = self.converted(self.written("dyt"), "rotary", "--context", "7")
        self.assertEqual({config_of(rotary)[key] for key in ("n_ctx", "n_positions")}, {7})
        self.refused(ours, "--context 10", "9 positions", options=["--context", "10"])

    def test_where_it_goes(self):
        ours = self.written("gpt2")
        full = self.folder / "full"
        full.mkdir()
        (full / "mine").write_text("")
        for options in ([], ["--format", "hf"]):
            self.refused(ours, "exists and is not empty", name="full", options=options)
        self.refused(ours, "is a folder", name="full", options=["--format", "llmc"])
        self.write("file", b"mine")
        self.refused(ours, "is not a folder", name="file")
        self.refused(ours, "exists and is not empty", name="file", options=["--format", "llmc"])
        self.refused(ours, "file cannot be created: Not a directory", name="file/below")
        self.assertEqual((self.folder / "file").read_bytes(), b"mine")
        for name, options in (("loop", []), ("loop/below", []), ("x" * 300, []), ("loop", ["--format", "llmc"])):
            words = "too long" if name.startswith("x") else "Too many levels"
            (self.folder / "loop").unlink(missing_ok=True)
            (self.folder / "loop").symlink_to("loop")
            self.refused(ours, name[:50], words, name=name, options=options)
        # A link to a place where nothing is yet.
        (self.folder / "far").mkdir()
        (self.folder / "link").symlink_to("far/model/")
        self.converted(ours, "link")
        self.assertTrue((self.folder / "link").is_symlink())
        self.assertEqual(raw_tensors(self.folder / "far/model"), raw_tensors(ours))
        self.assertEqual([path.name for path in (self.folder / "far").iterdir()], ["model"])

    def test_what_a_killed_run_left(self):
        """Its temporary folder is replaced. One that holds more than files is not the program's."""
        ours = self.written("gpt2")
        left = self.folder / ".new.tmp"
        left.mkdir()
        for name in ("model.safetensors", ".config.json.tmp"):
            (left / name).write_bytes(b"half")
        self.assertEqual(raw_tensors(self.converted(ours, "new")), raw_tensors(ours))
        self.assertFalse(left.exists())
        shutil.rmtree(self.folder / "new")
        (left / "mine").mkdir(parents=True)
        self.refused(ours, ".new.tmp", "is taken", name="new")

    def test_a_full_disk(self):
        """Whatever file does not fit, nothing of the model appears."""
        ours = self.written("gpt2")
        (ours / "tokenizer.model").write_bytes(b"of sentencepiece" * 10_000)
        before = sorted(self.folder.rglob("*"))
        for bytes, name in ((1000, "model.safetensors"), (100_000, "tokenizer.model")):
            limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, bytes))  # noqa: E731, B023, ulimit -f
            arguments = [self.convert, "--from", ours, "--to", self.folder / "a/new"]
            run = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, preexec_fn=limit)
            self.assertEqual((run.returncode, run.stderr.count("\n")), (1, 1), run.stderr)
            self.assertIn(f"{name} could not be written: File too large", run.stderr)
            self.assertEqual(sorted(self.folder.rglob("*")), before)

    def test_signals_and_lost_output(self):
        """A signal that comes while a model is written leaves nothing of it, and a lost message is no loss."""
        ours = self.written("gpt2")
        before = sorted(self.folder.rglob("*"))
        arguments = [str(a) for a in (self.convert, "--from", ours, "--to", self.folder / "new")]
        with open("/dev/full", "w") as full:
            self.assertEqual(subprocess.run(arguments, stdout=full).returncode, 0)
        self.assertEqual(raw_tensors(self.folder / "new"), raw_tensors(ours))
        for _ in range(100):
            shutil.rmtree(self.folder / "new")
            command = [*arguments, "--format", "hf", "--max-shard-size", "1KB"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as program:
                while program.poll() is None and not (self.folder / ".new.tmp").exists():
                    pass
                program.terminate()
                errors = program.stderr.read()
            if program.returncode != 0:  # otherwise it was faster than the signal
                break
        self.assertEqual((program.returncode, errors.count("\n")), (143, 1), errors)
        self.assertIn("stopped by signal 15; nothing was written", errors)
        self.assertEqual(sorted(self.folder.rglob("*")), before)

    def test_options(self):
        ours = self.written("gpt2")
        for option, value in {"--format": "onnx", "--dtype": "float16", "--max-shard-size": "5 apples",
                              "--context": "-1"}.items():
            self.refused(ours, value, options=[option, value])
        self.refused(ours, "--max-shard-size", options=["--max-shard-size", "0"])
        self.refused(ours, "--max-shard-size", options=["--max-shard-size", "99999999999999999999GB"])

    def test_what_llm_c_cannot_compute(self):
        def refused(source, *says):
            self.refused(source, "llm.c can compute", *says, options=["--format", "llmc"])

        refused(self.written("paper"), "activation_function", "gelu_new")
        refused(self.rewritten("paper", lambda config, _: config.update(activation_function="gelu_new")), "identity")
        refused(self.written("gpt2_untied"), "activation_function", "relu", "gelu_new")
        refused(self.written("neox"), "n_inner")

        def change(config, tensors):
            config["tie_word_embeddings"] = False
            tensors["lm_head.weight"] = tensors["wte.weight"]

        refused(self.rewritten("gpt2", change), "tie_word_embeddings")

    def test_norms_that_were_removed_fold(self):
        """A model with norms becomes one whose norms are removed; the folded model has none, and the same
        logits."""

        def without_norms(norm, gate):
            def change(config, tensors):
                config["norm"] = norm
                if config["final_norm"] == "layer_norm" and norm == "staged":
                    config["final_norm"] = norm  # this gives an untied output matrix
                for name in [name for name in tensors if name.endswith("ln_1.weight")] * (norm == "staged"):
                    for part in ("weight", "bias"):
                        there = tensors[name.replace("weight", part)]
                        tensors[name.replace("ln_1.weight", f"ln_1_v.{part}")] = 1.5 * there
                places = {name.rpartition(".")[0] for name in tensors if "ln_" in name}
                for i, place in enumerate(sorted(places - ({"ln_f"} if norm == "tapered" else set()))):
                    tensors[f"{place}.gate"] = numpy.float32([gate])
                    tensors[f"{place}.scale"] = numpy.float32([0.5 + 0.1 * i])

            return change

        tokens = [3, 1, 4, 1, 5, 9, 2, 6]
        for case in ("paper_ln", "neox"):
            for norm in ("tapered", "staged"):
                with self.subTest(case=case, norm=norm):
                    source = self.rewritten(case, without_norms(norm, 0))
                    folded = self.converted(source, f"folded_{case}_{norm}", "--fold")
                    config = config_of(folded)
                    self.assertEqual(config["norm"], "identity")
                    self.assertEqual(config["final_norm"], "identity" if norm == "staged" else "layer_norm")
                    there, here = (numpy.array(self.logits(folder, tokens)) for folder in (source, folded))
                    self.assertLess(numpy.abs(here - there).max(), 1e-5 * numpy.abs(there).max())
                    self.refused(folded, "nothing to fold", "identity", options=["--fold"])
                    self.converted(source, f"hf_{case}_{norm}", "--fold", "--format", "hf")
        half = self.rewritten("paper_ln", without_norms("tapered", 0.5))
        self.refused(half, "ln_1 is not removed yet", "0.5", "train on", options=["--fold"])
        self.refused(half, "being removed", "--fold", options=["--format", "hf"])
        self.refused(self.rewritten("gpt2", without_norms("tapered", 0)), "tapered", options=["--format", "llmc"])

    def test_broken_files_of_llm_c(self):
        whole = llm_c_file(self.tensors)

        def refused(data, *says):
            self.refused(self.write("model.bin", data), "model.bin", *says)

        refused(whole[:-1], "damaged", str(len(whole)), str(len(whole) - 1))
        refused(whole + b"\0", "damaged")
        refused(whole[:100], "truncated")
        refused(b"", "is not a model")
        refused(b"\0" * 2000, "is not a model")
        refused(llm_c_file(self.tensors, word_1=2), "version 2", "3")
        refused(llm_c_file(self.tensors, word_7=36), "padded vocabulary")
        refused(llm_c_file(self.tensors, word_7=2**31 - 1), "damaged")
        for position, key in {2: "n_positions", 3: "vocab_size", 4: "n_layer", 5: "n_head", 6: "n_embd"}.items():
            for value in (0, -5, 2**31 - 1):
                refused(llm_c_file(self.tensors, **{f"word_{position}": value}), key, str(value))
        refused(llm_c_file(self.tensors, word_5=5), "n_head of 5", "n_embd")

    def test_broken_models(self):
        self.refused(self.folder / "none", "cannot read", "none: No such file")
        (self.folder / "nothing").mkdir()
        self.refused(self.folder / "nothing", "config.json")
        (self.folder / "run/checkpoint").mkdir(parents=True)
        self.refused(self.folder / "run", "is the folder of a run", "run/checkpoint")
        os.mkfifo(self.folder / "fifo")
        self.refused(self.folder / "fifo", "is not a file")

        ours = self.written("gpt2")
        weights, config = (ours / name for name in ("model.safetensors", "config.json"))
        good_weights, good_config = weights.read_bytes(), config.read_text()
        lone = self.write("lone.safetensors", good_weights)
        self.refused(lone, "config.json")

        def refused_config(text, *says):
            config.write_text(text)
            self.refused(ours, "config.json", *says)
            config.write_text(good_config)

        refused_config("", "no JSON object")
        refused_config("[]", "no JSON object")
        refused_config(good_config[:-10], "no JSON object")
        saved = json.loads(good_config)
        for key, value in {
            "n_layer": 10**9, "n_embd": 13, "n_head": 0, "vocab_size": -1, "n_positions": 2**70, "n_inner": None,
            "norm": "gated_norm", "layout": "spiral", "activation_function": "relu*2+gated", "biases": 7,
            "sliding_window": 64, "model_type": "llama", "layer_norm_epsilon": 1e-6,
        }.items():
            with self.subTest(key):
                changed = json.dumps(saved | {key: value})
                config.write_text(changed)
                unknown = {"norm": "gated_norm", "layout": "spiral", "activation_function": "gated"}
                self.refused(ours, *([unknown[key], "config.json: "] if key in unknown else [key]))
        config.write_text(json.dumps(saved | {"n_layer": 3}))
        self.refused(ours, "lacks a tensor", "h.2.ln_1.weight")
        config.write_text(json.dumps(saved | {"n_layer": 1}))
        self.refused(ours, "does not have", "h.1.attn.c_attn.bias")
        config.write_text(json.dumps(saved | {"n_inner": 47}))
        self.refused(ours, "h.0.mlp.c_fc.weight", "[12, 48]", "[12, 47]")
        config.write_text(json.dumps(saved | {"n_positions": 10}))
        self.refused(ours, "wpe.weight", "[9, 12]", "[10, 12]")
        config.write_text(good_config)

        def refused_weights(data, *says):
            weights.write_bytes(data)
            self.refused(ours, "model.safetensors", *says)

        refused_weights(good_weights[:-1], "truncated")
        refused_weights(good_weights[:50], "truncated")
        refused_weights(b"", "0 bytes")
        refused_weights(b"PK" * 50, "header of")
        (length,) = struct.unpack_from("<Q", good_weights)
        header, data = json.loads(good_weights[8 : 8 + length]), good_weights[8 + length :]

        def with_entry(name, entry):
            text = json.dumps(header | {name: entry}).encode()
            return struct.pack("<Q", len(text)) + text + data

        bias = header["ln_f.bias"]
        refused_weights(with_entry("ln_f.bias", bias | {"data_offsets": header["ln_f.weight"]["data_offsets"]}), "overlap")
        refused_weights(with_entry("ln_f.bias", bias | {"shape": [2**40]}), "ln_f.bias", "needs")
        refused_weights(with_entry("ln_f.bias", bias | {"shape": [2**62, 2**62]}), "impossible shape")
        refused_weights(with_entry("ln_f.bias", bias | {"dtype": "I32"}), "ln_f.bias", "I32")
        weights.write_bytes(with_entry("transformer.ln_f.bias", bias | {"shape": [0], "data_offsets": [0, 0]}))
        self.refused(ours, "twice", "transformer.ln_f.bias")

        weights.unlink()
        self.refused(ours, "holds no weights")
        (ours / "pytorch_model.bin").write_bytes(b"PK")
        self.refused(ours / "pytorch_model.bin", "pickled", "safetensors")
        index = {"weight_map": {name: "model-00001-of-00002.safetensors" for name in header.keys() - {"__metadata__"}}}
        (ours / "model.safetensors.index.json").write_text(json.dumps(index))
        self.refused(ours, "index.json names", "model-00001-of-00002.safetensors", "not there")

    def test_a_tokenizer_goes_along(self):
        ours = self.written("gpt2")
        (ours / "tokenizer.model").write_bytes(b"of sentencepiece")
        copy = self.converted(ours, "copy")
        self.assertEqual((copy / "tokenizer.model").read_bytes(), b"of sentencepiece")
        self.assertFalse((copy / "tokenizer_config.json").exists())
        there = self.converted(ours, "there", "--format", "hf")
        self.assertEqual((there / "tokenizer.model").read_bytes(), b"of sentencepiece")
        config = json.loads((there / "tokenizer_config.json").read_text())
        self.assertEqual((config["tokenizer_class"], config["add_bos_token"]), ("LlamaTokenizer", False))

        # The one that is named goes before the one beside the weights.
        given = self.folder / "given.json"
        given.write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 1}}}))
        there = self.converted(ours, "named", "--format", "hf", "--tokenizer", given)
        self.assertEqual((there / "tokenizer.json").read_bytes(), given.read_bytes())
        self.assertFalse((there / "tokenizer.model").exists())
        config = json.loads((there / "tokenizer_config.json").read_text())
        self.assertEqual(config["tokenizer_class"], "PreTrainedTokenizerFast")
        self.assertEqual(config["model_max_length"], CONTEXT)
        # What transformers has beside it is kept as it is, on the way here and back.
        (there / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
        back = self.converted(self.converted(there, "here"), "back", "--format", "hf")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            self.assertEqual((back / name).read_bytes(), (there / name).read_bytes())

    def test_a_tokenizer_that_is_not_the_models_is_refused(self):
        ours, given = self.written("gpt2"), self.folder / "given.json"
        refused = lambda *says: self.refused(ours, *says, options=("--format", "hf", "--tokenizer", given))
        refused("cannot read", "given.json", "No such file")
        given.mkdir()
        refused("given.json", "is not a file", "a tokenizer.json or tokenizer.model was expected")
        given.rmdir()
        for content in ("{", "[]", '{"model": 1}', '{"model": {"vocab": {}}}'):
            given.write_text(content)
            refused("given.json is not a tokenizer.json")
        self.refused(ours, "neither a tokenizer.json nor", options=("--tokenizer", ours / "model.safetensors"))
        given.write_text(json.dumps({"model": {"vocab": {str(i): i for i in range(VOCABULARY + 1)}}}))
        refused("has 38 tokens, more than the model's 37")
        given.write_text(json.dumps({"model": {"vocab": {"a": 0}}}))
        (ours / "trainer.json").write_text(json.dumps({"data": {"train": {"path": "train.bin", "tokenizer": "0123"}}}))
        refused("given.json is not the tokenizer of train.bin (tokenizer 0123")
        self.refused(ours, "whose files hold no tokenizer", options=("--format", "llmc", "--tokenizer", given))


if __name__ == "__main__":
    main()
