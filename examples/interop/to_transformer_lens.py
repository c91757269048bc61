#!/usr/bin/env python3
"""Converts an lnfree model into a HookedTransformer of TransformerLens, with the same logits and attention
patterns.

    to_transformer_lens.py MODEL OUT

MODEL is a checkpoint/ of a trainer, or a folder written by convert --format lnfree. OUT is a file for
torch.load with the configuration ("config") and the state ("state_dict"). In your own program:

    from to_transformer_lens import load_model
    model = load_model("runs/sm_r/checkpoint")
    logits, cache = model.run_with_cache(tokens)

TransformerLens has LayerNorm or no norm before the sublayers, and sequential or parallel sublayers: the
layouts pre_norm and parallel. Other models are refused. A release before 4 is needed, since 4 has no
HookedTransformer: pip install "transformer_lens<4". Do not fold norms (fold_ln) if the blocks have no norm
but the output has one, as is the paper's default for norm-free models; load_model() sets the norms correctly.
"""

import json
import sys
from pathlib import Path

import torch
from modeling_lnfree import activate, activation_of_layer
from safetensors.torch import load_file

try:
    from transformer_lens import HookedTransformer, HookedTransformerConfig
except ImportError as error:
    sys.exit(f'to_transformer_lens.py: there is no HookedTransformer here ({error}); pip install "transformer_lens<4"')

NORMS = ("identity", "layer_norm")
LAYOUTS = ("pre_norm", "parallel")


class ModelError(Exception):
    """A model that TransformerLens does not have."""


def read_model(folder):
    """config.json and name -> tensor; raises ModelError for a model that TransformerLens does not have."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text())
        tensors = load_file(Path(folder) / "model.safetensors")
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} cannot be read: {error}") from error
    if "lnfree_version" not in config:
        raise ModelError(f"{path} is not lnfree's; run convert --format lnfree first")
    for key, known in {"norm": NORMS, "final_norm": NORMS, "layout": LAYOUTS}.items():
        if config[key] not in known:
            raise ModelError(f"{path}: its {key} is {config[key]}, and TransformerLens has only {' and '.join(known)}")
    return config, {name: tensor.float() for name, tensor in tensors.items()}


def hooked_config(config):
    """The configuration of a HookedTransformer. load_model() replaces the activation that it names."""
    has_norm = "layer_norm" in (config["norm"], config["final_norm"])
    rotary = {"positional_embedding_type": "rotary", "rotary_dim": config["rotary_dims"]}
    return {
        "n_layers": config["n_layer"],
        "n_heads": config["n_head"],
        "d_model": config["n_embd"],
        "d_head": config["n_embd"] // config["n_head"],
        "d_mlp": config["n_inner"],
        "d_vocab": config["vocab_size"],
        "n_ctx": config["n_ctx"],
        "act_fn": "relu",
        "normalization_type": "LN" if has_norm else None,
        "eps": config["layer_norm_epsilon"],
        "parallel_attn_mlp": config["layout"] == "parallel",
        "model_name": "lnfree",
        **(rotary if config["rotary_dims"] > 0 else {}),
    }


def hooked_state(config, tensors):
    """The state of a HookedTransformer: name -> tensor."""
    heads, width = config["n_head"], config["n_embd"]
    head_dim = width // heads

    def bias(name, size):
        return tensors.get(name + ".bias", torch.zeros(size))

    state = {"embed.W_E": tensors["wte.weight"]}
    if config["rotary_dims"] == 0:
        state["pos_embed.W_pos"] = tensors["wpe.weight"][: config["n_ctx"]]
    for layer in range(config["n_layer"]):
        here, there = f"h.{layer}.", f"blocks.{layer}."
        weights = tensors[here + "attn.c_attn.weight"].split(width, dim=1)
        biases = bias(here + "attn.c_attn", 3 * width).split(width)
        for part, weight, b in zip("QKV", weights, biases):
            state[there + f"attn.W_{part}"] = weight.reshape(width, heads, head_dim).permute(1, 0, 2)
            state[there + f"attn.b_{part}"] = b.reshape(heads, head_dim)
        state[there + "attn.W_O"] = tensors[here + "attn.c_proj.weight"].reshape(heads, head_dim, width)
        state[there + "attn.b_O"] = bias(here + "attn.c_proj", width)
        state[there + "mlp.W_in"] = tensors[here + "mlp.c_fc.weight"]
        state[there + "mlp.b_in"] = bias(here + "mlp.c_fc", config["n_inner"])
        state[there + "mlp.W_out"] = tensors[here + "mlp.c_proj.weight"]
        state[there + "mlp.b_out"] = bias(here + "mlp.c_proj", width)
        if config["norm"] == "layer_norm":
            for number in "12":
                state[there + f"ln{number}.w"] = tensors[here + f"ln_{number}.weight"]
                state[there + f"ln{number}.b"] = tensors[here + f"ln_{number}.bias"]
    if config["final_norm"] == "layer_norm":
        state["ln_final.w"], state["ln_final.b"] = tensors["ln_f.weight"], tensors["ln_f.bias"]
    state["unembed.W_U"] = tensors["wte.weight" if config["tie_word_embeddings"] else "lm_head.weight"].T
    state["unembed.b_U"] = torch.zeros(config["vocab_size"])
    return {name: tensor.contiguous() for name, tensor in state.items()}


def activation(config, tensors, layer):
    """The activation function of a layer."""
    name = activation_of_layer(config["activation_function"], layer)
    slope = tensors.get(f"h.{layer}.mlp.act.slope", tensors.get("act.slope"))
    return lambda x: activate(name, x, slope)


def load_model(folder):
    """Loads the HookedTransformer of a folder, in float."""
    config, tensors = read_model(folder)
    model = HookedTransformer(HookedTransformerConfig(**hooked_config(config), device="cpu"))
    for layer, block in enumerate(model.blocks):
        if config["norm"] == "identity":
            block.ln1, block.ln2 = torch.nn.Identity(), torch.nn.Identity()
        block.mlp.act_fn = activation(config, tensors, layer)
    if config["final_norm"] == "identity":
        model.ln_final = torch.nn.Identity()
    missing, unexpected = model.load_state_dict(hooked_state(config, tensors), strict=False)
    learned = [name for name in missing if name in dict(model.named_parameters())]  # the rest are masks and angles
    if learned or unexpected:
        raise ModelError(f"this TransformerLens has other tensors: {sorted([*learned, *unexpected])}")
    model.setup()  # hooks have to be set up for the new norms
    return model.eval()


def main():
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 0 if sys.argv[1:] in (["-h"], ["--help"]) else 2
    try:
        config, tensors = read_model(sys.argv[1])
    except ModelError as error:
        print(f"to_transformer_lens.py: {error}", file=sys.stderr)
        return 1
    torch.save({"config": hooked_config(config), "state_dict": hooked_state(config, tensors)}, sys.argv[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
