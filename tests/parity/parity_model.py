"""The paper's model, its loss and its training step in plain PyTorch: the oracle the C++ is held against.

Written from the paper and its recipe alone. Everything runs in double precision, whatever the weights were
stored in, so that a difference is the other side's rounding or the other side's error.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Shape:
    layers: int
    heads: int
    width: int
    ffn_width: int
    context: int
    vocab_size: int
    positions: int


@dataclass(frozen=True)
class Configuration:
    """One architecture of the comparison."""

    norm: bool  # LayerNorm in front of every sublayer, or nothing
    activation: str  # gelu, relu, leaky_per_layer, leaky_global
    final_norm: bool = True  # LayerNorm behind the last block


CONFIGURATIONS = {
    "sm_ln_g": Configuration(norm=True, activation="gelu"),
    "sm_ln_r": Configuration(norm=True, activation="relu"),
    "sm_g": Configuration(norm=False, activation="gelu"),
    "sm_r": Configuration(norm=False, activation="relu"),
    "leaky_per_layer": Configuration(norm=False, activation="leaky_per_layer"),
    "leaky_global": Configuration(norm=False, activation="leaky_global"),
    "clean": Configuration(norm=False, activation="relu", final_norm=False),
}


def tensor_shapes(shape, configuration):
    """Name -> shape of every tensor of a checkpoint: Hugging Face's GPT-2 names, matrices stored (in, out)."""
    d, f = shape.width, shape.ffn_width
    shapes = {"wte.weight": (shape.vocab_size, d), "wpe.weight": (shape.positions, d)}
    for layer in range(shape.layers):
        h = f"h.{layer}."
        shapes[h + "attn.c_attn.weight"] = (d, 3 * d)
        shapes[h + "attn.c_attn.bias"] = (3 * d,)
        shapes[h + "attn.c_proj.weight"] = (d, d)
        shapes[h + "mlp.c_fc.weight"] = (d, f)
        shapes[h + "mlp.c_proj.weight"] = (f, d)
        if configuration.norm:
            for norm in ("ln_1", "ln_2"):
                shapes[f"{h}{norm}.weight"] = shapes[f"{h}{norm}.bias"] = (d,)
        if configuration.activation == "leaky_per_layer":
            shapes[h + "mlp.act.slope"] = (1,)
    if configuration.activation == "leaky_global":
        shapes["act.slope"] = (1,)
    if configuration.final_norm:
        shapes["ln_f.weight"] = shapes["ln_f.bias"] = (d,)
    return shapes


class Model:
    """A Pre-LN GPT-2 over a dictionary of weights, with or without norms."""

    def __init__(self, shape, configuration, weights):
        self.shape = shape
        self.configuration = configuration
        self.nearest_kink = math.inf  # how close any hidden unit ever came to the kink of its activation
        expected = tensor_shapes(shape, configuration)
        found = {name: tuple(value.shape) for name, value in weights.items()}
        if found != expected:
            different = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
            raise ValueError(
                "the checkpoint is of another architecture: "
                + ", ".join(f"{n} is {found.get(n)}, expected {expected.get(n)}" for n in different)
            )
        self.weights = {
            name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in weights.items()
        }

    def _norm(self, name, x):
        w = self.weights
        return F.layer_norm(x, (self.shape.width,), w[name + ".weight"], w[name + ".bias"], eps=1e-5)

    def _attention(self, h, x):
        w, s = self.weights, self.shape
        batch, length, width = x.shape
        # Only queries and keys have a bias: the last third of the stored vector is no parameter.
        query_key_bias = w[h + "attn.c_attn.bias"][: 2 * width]
        bias = torch.cat([query_key_bias, torch.zeros(width, dtype=x.dtype)])
        qkv = x @ w[h + "attn.c_attn.weight"] + bias
        q, k, v = (
            part.view(batch, length, s.heads, width // s.heads).transpose(1, 2) for part in qkv.split(width, dim=2)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(width // s.heads)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        weights = torch.softmax(scores.masked_fill(future, -math.inf), dim=-1)
        heads = (weights @ v).transpose(1, 2).reshape(batch, length, width)
        return heads @ w[h + "attn.c_proj.weight"], weights

    def _activation(self, h, x):
        kind = self.configuration.activation
        if kind == "gelu":
            return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
        self.nearest_kink = min(self.nearest_kink, x.detach().abs().min().item())
        if kind == "relu":
            return torch.relu(x)
        slope = self.weights["act.slope" if kind == "leaky_global" else h + "mlp.act.slope"]
        return torch.where(x >= 0, x, slope * x)

    def forward(self, tokens):
        """Logits (B, T, V) for tokens (B, T), and the attention weights (B, H, T, T) of every layer."""
        w = self.weights
        x = w["wte.weight"][tokens] + w["wpe.weight"][: tokens.shape[1]]
        attention_weights = []
        for layer in range(self.shape.layers):
            h = f"h.{layer}."
            attended, weights = self._attention(h, self._norm(h + "ln_1", x) if self.configuration.norm else x)
            attention_weights.append(weights)
            x = x + attended
            before = self._norm(h + "ln_2", x) if self.configuration.norm else x
            hidden = self._activation(h, before @ w[h + "mlp.c_fc.weight"])
            x = x + hidden @ w[h + "mlp.c_proj.weight"]
        if self.configuration.final_norm:
            x = self._norm("ln_f", x)
        return x @ w["wte.weight"].T, attention_weights

    def loss(self, tokens):
        """Mean cross-entropy in nats of windows (B, T): a token predicts the next one, the last one nothing."""
        logits, _ = self.forward(tokens)
        return F.cross_entropy(logits[:, :-1].reshape(-1, self.shape.vocab_size), tokens[:, 1:].reshape(-1))

    def evaluate(self, windows, batch=64):
        """Mean loss over all targets of windows (N, T), and the mean entropy of every head [layer][head]."""
        total, entropies = 0.0, 0.0
        with torch.no_grad():
            for tokens in windows.split(batch):
                logits, attention = self.forward(tokens)
                log_p = torch.log_softmax(logits[:, :-1], dim=-1)
                total -= log_p.gather(2, tokens[:, 1:, None]).sum().item()
                entropies = entropies + torch.stack([head_entropies(a).sum(dim=(0, 2)) for a in attention])
        count, length = windows.shape
        return total / (count * (length - 1)), (entropies / (count * length)).tolist()


def head_entropies(weights):
    """The entropy in nats of every query, (B, H, T), from attention weights (B, H, T, T): the paper's equation
    8 before its mean, with 0 ln 0 = 0 in place of its small constant."""
    return -torch.where(weights > 0, weights * torch.log(weights.clamp_min(1e-300)), 0.0).sum(dim=-1)


def learning_rate(step, steps, peak, warmup_ratio, floor=1e-7):
    """The rate of step 0, 1, ...: up from 0 over the warm-up, then down to the floor in a straight line."""
    warmup = math.ceil(warmup_ratio * steps)
    if step < warmup:
        return peak * step / warmup
    return floor + (peak - floor) * (1 - (step - warmup) / (steps - warmup))


def train(model, batches, peak, warmup_ratio=0.05, weight_decay=0.1):
    """One optimizer step for each (B, T) of `batches`. Returns the loss of each before its update and the
    gradients' norm before clipping."""
    plain = [w for name, w in model.weights.items() if name.endswith("bias") or "ln_" in name]
    decayed = [w for name, w in model.weights.items() if not (name.endswith("bias") or "ln_" in name)]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=peak,
        betas=(0.9, 0.999),
        eps=1e-8,
    )
    losses, norms = [], []
    for step, tokens in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, len(batches), peak, warmup_ratio)
        optimizer.zero_grad()
        loss = model.loss(tokens)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(list(model.weights.values()), 1.0).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, norms
