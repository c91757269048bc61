"""Any lnfree model for Hugging Face's transformers, with all norms, activations and layouts. The program
convert puts this file beside the weights:

    AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)

Every pass computes all positions: there is no cache of keys and values. Dropout is left to the trainer.
"""

import math
import re

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

ROTARY_BASE = 10000.0


class LnfreeConfig(PretrainedConfig):
    """config.json, with the keys that lnfree writes."""

    model_type = "lnfree"
    attribute_map = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    def __init__(
        self,
        n_layer=1,
        n_head=1,
        n_embd=1,
        n_inner=4,
        n_positions=1,
        n_ctx=1,
        vocab_size=1,
        activation_function="gelu",
        layer_norm_epsilon=1e-5,
        norm="layer_norm",
        final_norm="layer_norm",
        biases="all",
        rotary_dims=0,
        layout="pre_norm",
        **kwargs,
    ):
        self.n_layer = n_layer
        self.n_head = n_head
        self.n_embd = n_embd
        self.n_inner = n_inner
        self.n_positions = n_positions
        self.n_ctx = n_ctx
        self.vocab_size = vocab_size
        self.activation_function = activation_function
        self.layer_norm_epsilon = layer_norm_epsilon
        self.norm = norm
        self.final_norm = final_norm
        self.biases = biases
        self.rotary_dims = rotary_dims
        self.layout = layout
        super().__init__(**kwargs)
        self.use_cache = False


def at_least_float(x):
    """Half-precision numbers are summed in float."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + 1e-6) * self.weight


class DynamicTanh(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), 0.5))
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return self.weight * torch.tanh(self.alpha * x) + self.bias


class DynamicErf(DynamicTanh):
    def __init__(self, width):
        super().__init__(width)
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.weight * torch.erf(self.alpha * x + self.shift) + self.bias


def make_norm(name, config):
    if name == "identity":
        return nn.Identity()
    if name == "layer_norm":
        return nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
    return {"rms_norm": RmsNorm, "dynamic_tanh": DynamicTanh, "dynamic_erf": DynamicErf}[name](config.n_embd)


class Slope(nn.Module):
    """The learned slope of a leaky ReLU."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.full((1,), 0.01))


def activation_of_layer(name, layer):
    """The name of a layer's activation: "relu*4+gelu" is ReLU in the first four layers and GELU in the rest,
    "relu*1+gelu*1" alternates the two."""
    parts = re.fullmatch(r"(.*?)\*(\d+)\+(.*?)(?:\*(\d+))?", name)
    if parts is None:
        return name
    count = int(parts[2])
    place = layer if parts[4] is None else layer % (count + int(parts[4]))
    return parts[1] if place < count else parts[3]


def activate(name, x, slope):
    """`slope` is the learned one, None for an activation without."""
    if name == "gelu":
        return F.gelu(x)
    if name == "gelu_new":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3))))
    if name == "relu":
        return F.relu(x)
    if name == "silu":
        return F.silu(x)
    if name == "squared_relu":
        return F.relu(x).square()
    if name.startswith("leaky_learnable"):
        return torch.where(x >= 0, x, slope * x)
    fraction = re.fullmatch(r"leaky_relu\((-?\d+)/(\d+)\)", name)
    return torch.where(x >= 0, x, int(fraction[1]) / int(fraction[2]) * x)


class Projection(nn.Module):
    """x W + b with W (in, out)."""

    def __init__(self, inputs, outputs, has_bias):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if has_bias else None

    def forward(self, x):
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


def rotated(x, positions, dims):
    """(B, H, T, head_dim) with its first `dims` channels rotated: c and c + dims / 2 are a pair."""
    half = dims // 2
    frequencies = ROTARY_BASE ** (-torch.arange(half, dtype=torch.float64, device=x.device) / half)
    angles = positions.to(torch.float64)[:, None, :, None] * frequencies
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:dims]
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine, x[..., dims:]], dim=-1)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads, self.rotary_dims = config.n_head, config.rotary_dims
        self.c_attn = Projection(config.n_embd, 3 * config.n_embd, config.biases != "none")
        self.c_proj = Projection(config.n_embd, config.n_embd, config.biases == "all")

    def forward(self, x, positions, hidden_keys):
        """`hidden_keys` (B or 1, 1, T, T) is true where a query must not attend to a key."""
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.c_attn(x).split(width, dim=2)
        )
        if self.rotary_dims > 0:
            q, k = rotated(q, positions, self.rotary_dims), rotated(k, positions, self.rotary_dims)
        scores = at_least_float(q @ k.transpose(2, 3) / math.sqrt(width // self.heads))
        weights = torch.softmax(scores.masked_fill(hidden_keys, -math.inf), dim=-1)
        heads = (weights.to(v.dtype) @ v).transpose(1, 2).reshape(batch, length, width)
        return self.c_proj(heads), weights


class FeedForward(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.activation = activation_of_layer(config.activation_function, layer)
        self.c_fc = Projection(config.n_embd, config.n_inner, config.biases == "all")
        self.c_proj = Projection(config.n_inner, config.n_embd, config.biases == "all")
        if self.activation == "leaky_learnable_per_layer":
            self.act = Slope()

    def forward(self, x, global_slope):
        slope = self.act.slope if self.activation == "leaky_learnable_per_layer" else global_slope
        return self.c_proj(activate(self.activation, self.c_fc(x), slope))


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.layout = config.layout
        self.attn = Attention(config)
        self.mlp = FeedForward(config, layer)
        self.ln_1, self.ln_2 = make_norm(config.norm, config), make_norm(config.norm, config)
        if self.layout == "sandwich":
            self.ln_1_post, self.ln_2_post = make_norm(config.norm, config), make_norm(config.norm, config)

    def forward(self, x, positions, hidden_keys, slope):
        attended, weights = self.attn(x if self.layout == "post_norm" else self.ln_1(x), positions, hidden_keys)
        if self.layout == "post_norm":
            x = self.ln_1(x + attended)
            x = self.ln_2(x + self.mlp(x, slope))
        elif self.layout == "sandwich":
            x = x + self.ln_1_post(attended)
            x = x + self.ln_2_post(self.mlp(self.ln_2(x), slope))
        elif self.layout == "parallel":
            x = x + attended + self.mlp(self.ln_2(x), slope)
        else:
            x = x + attended
            x = x + self.mlp(self.ln_2(x), slope)
        return x, weights


class LnfreeForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = LnfreeConfig
    base_model_prefix = ""
    _no_split_modules = ["Block"]

    def __init__(self, config):
        super().__init__(config)
        known = {"pre_norm", "parallel", "post_norm", "sandwich"}
        if config.layout not in known:
            raise ValueError(f"config.json: its layout is {config.layout!r}, expected one of {sorted(known)}")
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        if config.rotary_dims == 0:
            self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        if "leaky_learnable_global" in config.activation_function:
            self.act = Slope()
        self.ln_f = make_norm(config.final_norm, config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.post_init()

    def _init_weights(self, module):
        std = 0.02 * math.sqrt(768 / self.config.n_embd)
        if isinstance(module, (nn.Embedding, nn.Linear, Projection)):
            module.weight.data.normal_(std=std)

    def get_input_embeddings(self):
        return self.wte

    def set_input_embeddings(self, value):
        self.wte = value

    def get_output_embeddings(self):
        return getattr(self, "lm_head", None)

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        inputs_embeds=None,
        labels=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        **kwargs,
    ):
        """Logits (B, T, V). attention_mask (B, T) is 0 at padding, which no query attends to."""
        x = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        batch, length = x.shape[:2]
        if self.config.rotary_dims == 0 and length > self.config.n_positions:
            raise ValueError(f"{length} tokens are more than the {self.config.n_positions} positions of this model")
        hidden_keys = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)[None, None]
        if attention_mask is not None:
            is_padding = attention_mask[:, -length:] == 0
            # Padding attends to itself, since a softmax over nothing would be NaN.
            itself = torch.eye(length, dtype=torch.bool, device=x.device)
            hidden_keys = hidden_keys | (is_padding[:, None, None, :] & ~itself)
            if position_ids is None:
                position_ids = (attention_mask[:, -length:].long().cumsum(dim=-1) - 1).clamp(min=0)
        if position_ids is None:
            position_ids = torch.arange(length, device=x.device)[None]
        if self.config.rotary_dims == 0:
            x = x + self.wpe(position_ids)

        slope = self.act.slope if hasattr(self, "act") else None
        streams, attentions = [x], []
        for block in self.h:
            x, weights = block(x, position_ids, hidden_keys, slope)
            streams.append(x)
            attentions.append(weights)
        x = self.ln_f(x)
        logits = F.linear(x, self.wte.weight if self.config.tie_word_embeddings else self.lm_head.weight)

        loss = None
        if labels is not None:
            targets = labels[:, 1:].reshape(-1)
            loss = F.cross_entropy(at_least_float(logits[:, :-1].reshape(-1, logits.shape[-1])), targets)
        if return_dict is False:
            return (logits,) if loss is None else (loss, logits)
        wants_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        wants_streams = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return CausalLMOutput(
            loss=loss,
            logits=logits,
            hidden_states=tuple(streams) if wants_streams else None,
            attentions=tuple(attentions) if wants_attentions else None,
        )
