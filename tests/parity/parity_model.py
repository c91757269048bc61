"""The paper's models, their loss and its training step in plain PyTorch: the oracle the C++ is held against.

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
    rotary_dims: int = 4  # of the architectures with rotary positions: channels of each head that turn


@dataclass(frozen=True)
class Configuration:
    """One architecture of the comparison."""

    norm: str | None  # layer_norm, rms_norm, dynamic_tanh, dynamic_erf, or nothing in front of the sublayers
    activation: str  # gelu, relu, leaky_per_layer, leaky_global, squared_relu, silu, relu_gelu
    final_norm: bool = True  # LayerNorm behind the last block
    pythia: bool = False  # rotary positions, sublayers side by side, biases everywhere, an output matrix of its own
    regularized: bool = False  # the entropy-guided loss


CONFIGURATIONS = {
    "sm_ln_g": Configuration(norm="layer_norm", activation="gelu"),
    "sm_ln_r": Configuration(norm="layer_norm", activation="relu"),
    "sm_g": Configuration(norm=None, activation="gelu"),
    "sm_r": Configuration(norm=None, activation="relu"),
    "leaky_per_layer": Configuration(norm=None, activation="leaky_per_layer"),
    "leaky_global": Configuration(norm=None, activation="leaky_global"),
    "clean": Configuration(norm=None, activation="relu", final_norm=False),
    "pythia_ln_g": Configuration(norm="layer_norm", activation="gelu", pythia=True),
    "pythia_r": Configuration(norm=None, activation="relu", pythia=True),
    "rms_silu": Configuration(norm="rms_norm", activation="silu"),
    "dyt_squared_relu": Configuration(norm="dynamic_tanh", activation="squared_relu"),
    "derf_g": Configuration(norm="dynamic_erf", activation="gelu"),
    "relu_gelu": Configuration(norm=None, activation="relu_gelu"),
    "entropy_g": Configuration(norm=None, activation="gelu", regularized=True),
}

# Of the hybrid activation: layers that have ReLU.
RELU_LAYERS = 2
# Of the entropy-guided loss, the mean over queries; the margin as a share of ln(context).
PENALTY_COEFFICIENT, PENALTY_MARGIN = 0.3, 0.2


def tensor_shapes(shape, configuration):
    """Name -> shape of every tensor of a checkpoint: Hugging Face's GPT-2 names, matrices stored (in, out)."""
    d, f = shape.width, shape.ffn_width
    shapes = {"wte.weight": (shape.vocab_size, d)}
    if configuration.pythia:
        shapes["lm_head.weight"] = (shape.vocab_size, d)
    else:
        shapes["wpe.weight"] = (shape.positions, d)
    learned_by_norm = {
        None: {},
        "layer_norm": {"weight": (d,), "bias": (d,)},
        "rms_norm": {"weight": (d,)},
        "dynamic_tanh": {"alpha": (1,), "weight": (d,), "bias": (d,)},
        "dynamic_erf": {"alpha": (1,), "shift": (1,), "weight": (d,), "bias": (d,)},
    }[configuration.norm]
    for layer in range(shape.layers):
        h = f"h.{layer}."
        shapes[h + "attn.c_attn.weight"] = (d, 3 * d)
        shapes[h + "attn.c_attn.bias"] = (3 * d,)
        shapes[h + "attn.c_proj.weight"] = (d, d)
        shapes[h + "mlp.c_fc.weight"] = (d, f)
        shapes[h + "mlp.c_proj.weight"] = (f, d)
        if configuration.pythia:
            shapes |= {h + "attn.c_proj.bias": (d,), h + "mlp.c_fc.bias": (f,), h + "mlp.c_proj.bias": (d,)}
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{h}{norm}.{name}": size for name, size in learned_by_norm.items()}
        if configuration.activation == "leaky_per_layer":
            shapes[h + "mlp.act.slope"] = (1,)
    if configuration.activation == "leaky_global":
        shapes["act.slope"] = (1,)
    if configuration.final_norm:
        shapes["ln_f.weight"] = shapes["ln_f.bias"] = (d,)
    if configuration.regularized:
        shapes["entropy_threshold"] = (shape.heads,)
    return shapes


class Model:
    """A decoder over a dictionary of weights: a Pre-LN GPT-2 or Pythia, with or without norms."""

    def __init__(self, shape, configuration, weights):
        self.shape = shape
        self.configuration = configuration
        # How close anything ever came to a point where the loss has a kink: a hidden unit to that of its activation, an
        # entropy to the margin around its threshold.
        self.nearest_kink = math.inf
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

    def _layer_norm(self, name, x):
        w = self.weights
        return F.layer_norm(x, (self.shape.width,), w[name + ".weight"], w[name + ".bias"], eps=1e-5)

    def _norm(self, name, x):
        """What stands in front of a sublayer."""
        w, kind = self.weights, self.configuration.norm
        if kind is None:
            return x
        if kind == "layer_norm":
            return self._layer_norm(name, x)
        if kind == "rms_norm":
            return w[name + ".weight"] * x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + 1e-6)
        squashed = w[name + ".alpha"] * x
        squashed = torch.tanh(squashed) if kind == "dynamic_tanh" else torch.erf(squashed + w[name + ".shift"])
        return w[name + ".weight"] * squashed + w[name + ".bias"]

    def _linear(self, name, x):
        y = x @ self.weights[name + ".weight"]
        return y + self.weights[name + ".bias"] if self.configuration.pythia else y

    def _attention(self, h, x):
        w, s = self.weights, self.shape
        batch, length, width = x.shape
        bias = w[h + "attn.c_attn.bias"]
        if not self.configuration.pythia:
            # Only queries and keys have a bias: the last third of the stored vector is no parameter.
            bias = torch.cat([bias[: 2 * width], torch.zeros(width, dtype=x.dtype)])
        qkv = x @ w[h + "attn.c_attn.weight"] + bias
        q, k, v = (
            part.view(batch, length, s.heads, width // s.heads).transpose(1, 2) for part in qkv.split(width, dim=2)
        )
        if self.configuration.pythia:
            q, k = rotated(q, s.rotary_dims), rotated(k, s.rotary_dims)
        scores = q @ k.transpose(2, 3) / math.sqrt(width // s.heads)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        weights = torch.softmax(scores.masked_fill(future, -math.inf), dim=-1)
        heads = (weights @ v).transpose(1, 2).reshape(batch, length, width)
        return self._linear(h + "attn.c_proj", heads), weights

    def _activation(self, layer, x):
        kind = self.configuration.activation
        if kind == "relu_gelu":
            kind = "relu" if layer < RELU_LAYERS else "gelu"
        if kind == "gelu":
            return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
        if kind == "silu":
            return x / (1 + torch.exp(-x))
        if kind == "squared_relu":
            return x.clamp_min(0) ** 2
        self.nearest_kink = min(self.nearest_kink, x.detach().abs().min().item())
        if kind == "relu":
            return torch.relu(x)
        slope = self.weights["act.slope" if kind == "leaky_global" else f"h.{layer}.mlp.act.slope"]
        return torch.where(x >= 0, x, slope * x)

    def _feed_forward(self, layer, x):
        h = f"h.{layer}.mlp."
        return self._linear(h + "c_proj", self._activation(layer, self._linear(h + "c_fc", x)))

    def forward(self, tokens):
        """Logits (B, T, V) for tokens (B, T), and the attention weights (B, H, T, T) of every layer."""
        w, c = self.weights, self.configuration
        x = w["wte.weight"][tokens]
        if not c.pythia:
            x = x + w["wpe.weight"][: tokens.shape[1]]
        attention_weights = []
        for layer in range(self.shape.layers):
            h = f"h.{layer}."
            attended, weights = self._attention(h, self._norm(h + "ln_1", x))
            attention_weights.append(weights)
            if c.pythia:
                x = x + attended + self._feed_forward(layer, self._norm(h + "ln_2", x))
            else:
                x = x + attended
                x = x + self._feed_forward(layer, self._norm(h + "ln_2", x))
        if c.final_norm:
            x = self._layer_norm("ln_f", x)
        return x @ w["lm_head.weight" if c.pythia else "wte.weight"].T, attention_weights

    def penalty(self, attention_weights):
        """The entropy-guided loss, the mean of its squared deviations."""
        most = math.log(self.shape.context)
        thresholds = self.weights["entropy_threshold"][:, None] * most
        total = 0.0
        for weights in attention_weights:
            deviation = head_entropies(weights) - thresholds
            excess = deviation.detach().abs() - PENALTY_MARGIN * most
            self.nearest_kink = min(self.nearest_kink, excess.abs().min().item())
            total = total + torch.where(excess > 0, deviation**2, 0.0).mean()
        return PENALTY_COEFFICIENT * total / len(attention_weights)

    def objective(self, tokens):
        """What training minimizes, and the loss in it."""
        logits, attention_weights = self.forward(tokens)
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, self.shape.vocab_size), tokens[:, 1:].reshape(-1))
        return loss + self.penalty(attention_weights) if self.configuration.regularized else loss, loss

    def loss(self, tokens):
        """Mean cross-entropy in nats of windows (B, T): a token predicts the next one, the last one nothing."""
        return self.objective(tokens)[1]

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


def rotated(x, dims):
    """Rotary positions in the first `dims` channels of (B, H, T, head_dim), as complex numbers: channel c is the real
    and channel c + dims / 2 the imaginary part of one that position t multiplies by e^(i t f_c)."""
    half = dims // 2
    number = torch.complex(x[..., :half], x[..., half:dims])
    frequencies = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(x.shape[2], dtype=torch.float64)[:, None] * frequencies
    number = number * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([number.real, number.imag, x[..., dims:]], dim=-1)


def learning_rate(step, steps, peak, warmup_ratio, floor=1e-7):
    """The rate of step 0, 1, ...: up from 0 over the warm-up, then down to the floor in a straight line."""
    warmup = math.ceil(warmup_ratio * steps)
    if step < warmup:
        return peak * step / warmup
    return floor + (peak - floor) * (1 - (step - warmup) / (steps - warmup))


def train(model, batches, peak, warmup_ratio=0.05, weight_decay=0.1):
    """One optimizer step for each (B, T) of `batches`. Returns the loss of each before its update and the
    gradients' norm before clipping."""

    def is_plain(name):
        return name.endswith("bias") or "ln_" in name or name == "entropy_threshold"

    plain = [w for name, w in model.weights.items() if is_plain(name)]
    decayed = [w for name, w in model.weights.items() if not is_plain(name)]
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
        objective, loss = model.objective(tokens)
        objective.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(list(model.weights.values()), 1.0).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, norms
