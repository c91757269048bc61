"""The paper's models, their loss and its training step in plain PyTorch: the oracle for the C++.

Written only from the paper and its recipe. It runs in double precision, whatever the type of the weights, so
that a difference is the other side's rounding or error. In float it shows the expected rounding
(float_precision.py).
"""

import math
import re
from dataclasses import dataclass

import numpy
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
    rotary_dims: int = 0  # channels of each head that are rotated; 0: learned positions

    @classmethod
    def of(cls, architecture):
        """That of a checkpoint's config.json."""
        names = ("n_layer", "n_head", "n_embd", "n_inner", "n_ctx", "vocab_size", "n_positions", "rotary_dims")
        return cls(*(architecture[name] for name in names))


@dataclass(frozen=True)
class Configuration:
    """One architecture of the comparison, with its parts named as in config.json."""

    norm: str | None  # in front of the sublayers
    # Or that of the first layers and that of the rest, "relu*2+gelu"; "relu*1+gelu*1" if they alternate.
    activation: str
    final_norm: str | None = "layer_norm"  # behind the last block
    pythia: bool = False  # rotary positions, parallel sublayers, biases everywhere, an untied output matrix
    layout: str = "pre_norm"  # where the norms are; Pythia's is parallel
    objective: str = "cross_entropy"  # or "entropy_penalty", "distillation", "sparse_hidden"
    dropout: float = 0  # rate, of the embedding

    @classmethod
    def of(cls, architecture, **others):
        """That of a checkpoint's config.json; raises ValueError for parts that are not written here."""
        norm, final_norm = (None if architecture[key] == "identity" else architecture[key] for key in ("norm", "final_norm"))
        configuration = cls(norm, architecture["activation_function"], final_norm, architecture["parallel_residual"],
                            architecture["layout"], **others)
        unknown = {norm, final_norm} - LEARNED_BY_NORM.keys() | set(configuration.activations) - set(ACTIVATIONS)
        unknown |= {architecture["layout"]} - NORMS_OF_LAYOUT.keys() | {configuration.objective} - set(OBJECTIVES)
        if unknown:
            raise ValueError(f"the oracle has no {', '.join(map(str, unknown))}; write its formula in parity_model.py")
        return configuration

    @property
    def activations(self):
        """The activations of the first layers and of the rest, equal if there is only one."""
        return re.sub(r"\*\d+$", "", re.sub(r"\*\d+\+", "+", self.activation)).split("+")

    def activation_of(self, layer):
        """The activation of one layer."""
        counts = [int(count) for count in re.findall(r"\*(\d+)", self.activation)]
        if len(counts) == 2:
            layer %= sum(counts)
        return self.activations[0 if not counts or layer < counts[0] else -1]


# The norms of a block, by layout.
NORMS_OF_LAYOUT = {
    "pre_norm": ("ln_1", "ln_2"),
    "parallel": ("ln_1", "ln_2"),
    "post_norm": ("ln_1", "ln_2"),
    "sandwich": ("ln_1", "ln_1_post", "ln_2", "ln_2_post"),
}
# The learned parameters of a norm, with their size: one number, or one for each channel.
LEARNED_BY_NORM = {
    None: {},
    "layer_norm": {"weight": "width", "bias": "width"},
    "rms_norm": {"weight": "width"},
    "dynamic_tanh": {"alpha": 1, "weight": "width", "bias": "width"},
    "dynamic_erf": {"alpha": 1, "shift": 1, "weight": "width", "bias": "width"},
    "tapered": {"weight": "width", "bias": "width", "gate": 1, "scale": 1},
    "staged": {"weight": "width", "bias": "width", "gate": 1, "scale": 1},
}
REMOVED_NORMS = ("tapered", "staged")
ACTIVATIONS = ("gelu", "relu", "silu", "squared_relu", "leaky_learnable_per_layer", "leaky_learnable_global")

OBJECTIVES = ("cross_entropy", "entropy_penalty", "distillation", "sparse_hidden", "steady_scale")

# Of the L1 penalty on hidden units, and of learning from a teacher.
HIDDEN_PENALTY, TEACHER_WEIGHT, TEACHER_TEMPERATURE = 0.01, 0.4, 2.0
# Of learning from a teacher's stream: the weight, and behind which blocks, the student's and the teacher's.
HIDDEN_WEIGHT, LAYER_PAIRS = 0.6, ((0, 0), (2, 1))
# Of the entropy-guided loss, the mean over queries; the margin as a share of ln(context).
PENALTY_COEFFICIENT, PENALTY_MARGIN = 0.3, 0.2
# Of the penalties on the stream's scale: its spread, and its distance from the anchor; and where that is at first.
SPREAD_PENALTY, ANCHOR_PENALTY, FIRST_ANCHOR = 0.7, 0.3, 1.25
# Of a removal of norms: the shares of the steps after which it begins and ends.
REMOVAL_FROM, REMOVAL_TO = 0.1, 0.7
# For dropout: the run's seed, and the windows of a forward pass, each of which draws a new mask.
DROPOUT_SEED, WINDOWS_PER_PASS = 0x0123456789ABCDEF, 2


def tensor_shapes(shape, configuration):
    """Name -> shape of every tensor of a checkpoint: Hugging Face's GPT-2 names, matrices stored (in, out)."""
    d, f = shape.width, shape.ffn_width
    shapes = {"wte.weight": (shape.vocab_size, d)}
    if configuration.pythia:
        shapes["lm_head.weight"] = (shape.vocab_size, d)
    else:
        shapes["wpe.weight"] = (shape.positions, d)

    def add_norm(place, norm):
        for name, size in LEARNED_BY_NORM[norm].items():
            shapes[f"{place}.{name}"] = (d if size == "width" else size,)

    for layer in range(shape.layers):
        h = f"h.{layer}."
        shapes[h + "attn.c_attn.weight"] = (d, 3 * d)
        shapes[h + "attn.c_attn.bias"] = (3 * d,)
        shapes[h + "attn.c_proj.weight"] = (d, d)
        shapes[h + "mlp.c_fc.weight"] = (d, f)
        shapes[h + "mlp.c_proj.weight"] = (f, d)
        if configuration.pythia:
            shapes |= {h + "attn.c_proj.bias": (d,), h + "mlp.c_fc.bias": (f,), h + "mlp.c_proj.bias": (d,)}
        for name in NORMS_OF_LAYOUT[configuration.layout]:
            add_norm(h + name, configuration.norm)
        if configuration.norm == "staged":
            add_norm(h + "ln_1_v", configuration.norm)
        if configuration.activation_of(layer) == "leaky_learnable_per_layer":
            shapes[h + "mlp.act.slope"] = (1,)
    if "leaky_learnable_global" in configuration.activations:
        shapes["act.slope"] = (1,)
    add_norm("ln_f", configuration.final_norm)
    if configuration.objective == "entropy_penalty":
        shapes["entropy_threshold"] = (shape.heads,)
    return shapes


class Model:
    """A decoder over a dictionary of weights: a GPT-2 of any layout or Pythia, with or without norms."""

    def __init__(self, shape, configuration, weights, dtype=torch.float64, sides=(), teacher=None):
        """`teacher`: the weights of a model of this architecture to learn from. `sides` overrides on which
        side of a kink numbers are: for the first kinks in forward passes, a mask of the affected numbers, and
        whether these are beyond the kink."""
        self.shape = shape
        self.configuration = configuration
        # All numbers with a kink at 0, in the order of the passes: inputs of ReLU and similar activations,
        # and how far entropies are outside the margin around their threshold.
        self.distances = []
        self._sides = iter(sides)
        expected = tensor_shapes(shape, configuration)
        found = {name: tuple(value.shape) for name, value in weights.items()}
        if found != expected:
            different = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
            raise ValueError(
                "the checkpoint is of another architecture: "
                + ", ".join(f"{n} is {found.get(n)}, expected {expected.get(n)}" for n in different)
            )
        self.weights = {
            name: torch.tensor(value, dtype=dtype, requires_grad=not is_setting(name)) for name, value in weights.items()
        }
        self.teacher_weights = teacher
        self.teacher = None if teacher is None else Model(shape, configuration, teacher, dtype)
        self.hidden = []  # of the last forward pass, by layer
        self.streams = []  # of the last forward pass, behind each block
        self.stream = None  # behind the last one
        self.anchor = FIRST_ANCHOR  # of that stream's scale
        self.rows = {}  # of the last forward pass: name of a removed norm -> variances and inverse deviations of its rows

    def _is_beyond_kink(self, distance):
        self.distances.append(distance.detach())
        mask, side = next(self._sides, (torch.tensor(False), torch.tensor(False)))
        return torch.where(mask, side, self.distances[-1] > 0)

    def _layer_norm(self, name, x):
        w = self.weights
        return F.layer_norm(x, (self.shape.width,), w[name + ".weight"], w[name + ".bias"], eps=1e-5)

    def _norm(self, name, x, kind):
        """The norm before a sublayer, or after the last block."""
        w = self.weights
        if kind is None:
            return x
        if kind == "layer_norm":
            return self._layer_norm(name, x)
        if kind == "rms_norm":
            return w[name + ".weight"] * x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + 1e-6)
        if kind in REMOVED_NORMS:
            return self._removed_norm(name, x)
        squashed = w[name + ".alpha"] * x
        squashed = torch.tanh(squashed) if kind == "dynamic_tanh" else torch.erf(squashed + w[name + ".shift"])
        return w[name + ".weight"] * squashed + w[name + ".bias"]

    def _removed_norm(self, name, x):
        """A share g of a layer norm, and 1 - g of the centered row times the same number for all rows."""
        w, gate = self.weights, self.weights[name + ".gate"]
        normalized = self._layer_norm(name, x)
        centered = x - x.mean(dim=-1, keepdim=True)
        variance = centered.detach().square().mean(dim=-1)
        self.rows[name] = variance, (variance + 1e-5).rsqrt()
        return gate * normalized + (1 - gate) * w[name + ".scale"] * centered * w[name + ".weight"]

    def _linear(self, name, x):
        y = x @ self.weights[name + ".weight"]
        return y + self.weights[name + ".bias"] if self.configuration.pythia else y

    def _attention(self, h, x, of_values=None):
        """Values are computed from `of_values` if given."""
        w, s = self.weights, self.shape
        batch, length, width = x.shape
        bias = w[h + "attn.c_attn.bias"]
        if not self.configuration.pythia:
            # Only queries and keys have a bias: the last third of the stored vector is not a parameter.
            bias = torch.cat([bias[: 2 * width], torch.zeros(width, dtype=x.dtype)])
        qkv = x @ w[h + "attn.c_attn.weight"] + bias
        if of_values is not None:
            values = of_values @ w[h + "attn.c_attn.weight"][:, 2 * width :] + bias[2 * width :]
            qkv = torch.cat([qkv[..., : 2 * width], values], dim=-1)
        q, k, v = (
            part.view(batch, length, s.heads, width // s.heads).transpose(1, 2) for part in qkv.split(width, dim=2)
        )
        if self.configuration.pythia:
            q, k = rotated(q, s.rotary_dims), rotated(k, s.rotary_dims)
        weights = torch.softmax(self._scores(q, k), dim=-1)
        heads = (weights @ v).transpose(1, 2).reshape(batch, length, width)
        return self._linear(h + "attn.c_proj", heads), weights

    def _scores(self, q, k):
        """(B, H, T, T), -inf where a query does not attend to a key."""
        length, head_dim = q.shape[2:]
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        return (q @ k.transpose(2, 3) / math.sqrt(head_dim)).masked_fill(future, -math.inf)

    def _activation(self, layer, x):
        kind = self.configuration.activation_of(layer)
        if kind == "gelu":
            return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
        if kind == "silu":
            return x / (1 + torch.exp(-x))
        if kind == "squared_relu":
            return x.clamp_min(0) ** 2
        if kind == "relu":
            return torch.where(self._is_beyond_kink(x), x, 0.0)
        slope = self.weights["act.slope" if kind == "leaky_learnable_global" else f"h.{layer}.mlp.act.slope"]
        return torch.where(self._is_beyond_kink(x), x, slope * x)

    def _feed_forward(self, layer, x):
        h = f"h.{layer}.mlp."
        self.hidden.append(self._activation(layer, self._linear(h + "c_fc", x)))
        return self._linear(h + "c_proj", self.hidden[-1])

    def _embedding(self, tokens):
        x = self.weights["wte.weight"][tokens]
        return x if self.configuration.pythia else x + self.weights["wpe.weight"][: tokens.shape[1]]

    def _dropout(self, x, step):
        """Of a training pass: step s visits its windows in passes, which count on from those of the steps before."""
        rate = self.configuration.dropout
        if rate == 0:
            return x
        passes = x.split(WINDOWS_PER_PASS)
        kept = [
            dropout_numbers(step * len(passes) + i, part.numel()).reshape(part.shape) >= rate * 2**32
            for i, part in enumerate(passes)
        ]
        return torch.where(torch.from_numpy(numpy.concatenate(kept)), x / (1 - rate), 0.0)

    def forward(self, tokens, training_step=None):
        """Logits (B, T, V) for tokens (B, T), and the attention weights (B, H, T, T) of every layer. Only training
        has dropout."""
        w, c = self.weights, self.configuration
        x = self._embedding(tokens)
        if training_step is not None:
            x = self._dropout(x, training_step)
        attention_weights = []
        self.hidden, self.streams = [], []
        for layer in range(self.shape.layers):
            h = f"h.{layer}."

            def norm(name, value):
                return self._norm(h + name, value, c.norm)

            of_values = [norm("ln_1_v", x)] if c.norm == "staged" else []
            attended, weights = self._attention(h, x if c.layout == "post_norm" else norm("ln_1", x), *of_values)
            attention_weights.append(weights)
            if c.layout == "post_norm":
                x = norm("ln_1", x + attended)
                x = norm("ln_2", x + self._feed_forward(layer, x))
            elif c.layout == "sandwich":
                x = x + norm("ln_1_post", attended)
                x = x + norm("ln_2_post", self._feed_forward(layer, norm("ln_2", x)))
            elif c.layout == "parallel":
                x = x + attended + self._feed_forward(layer, norm("ln_2", x))
            else:
                x = x + attended
                x = x + self._feed_forward(layer, norm("ln_2", x))
            self.streams.append(x)
        self.stream = x
        x = self._norm("ln_f", x, c.final_norm)
        return x @ w["lm_head.weight" if c.pythia else "wte.weight"].T, attention_weights

    def penalty(self, attention_weights):
        """The entropy-guided loss, the mean of its squared deviations."""
        most = math.log(self.shape.context)
        thresholds = self.weights["entropy_threshold"][:, None] * most
        total = 0.0
        for weights in attention_weights:
            deviation = head_entropies(weights) - thresholds
            is_outside = self._is_beyond_kink(deviation.abs() - PENALTY_MARGIN * most)
            total = total + torch.where(is_outside, deviation**2, 0.0).mean()
        return PENALTY_COEFFICIENT * total / len(attention_weights)

    def hidden_penalty(self):
        """The L1 penalty on the hidden units of the last forward pass."""
        return HIDDEN_PENALTY * sum(h.abs().sum(dim=-1).mean() for h in self.hidden)

    def _scales(self):
        """Of the last stream's rows; not of first positions."""
        return (self.stream.var(dim=-1, unbiased=False) + 1e-5).sqrt()[:, 1:]

    def spread_penalty(self):
        """The mean squared deviation of the scales of the last stream's rows from their mean in a pass."""
        passes = [(part - part.mean()).square().mean() for part in self._scales().split(WINDOWS_PER_PASS)]
        return SPREAD_PENALTY * torch.stack(passes).mean()

    def anchor_penalty(self):
        """The mean squared deviation of these scales from the anchor."""
        return ANCHOR_PENALTY * (self._scales() - self.anchor).square().mean()

    def move_anchor(self, step):
        """Moves the anchor toward the scale of the last forward pass."""
        with torch.no_grad():
            self.anchor = self.anchor + max(1 / (step + 1), 0.01) * (self._scales().mean() - self.anchor)

    def divergence(self, logits, tokens):
        """temperature^2 KL(teacher || student), the mean over the tokens that predict one."""
        with torch.no_grad():
            of_teacher = self.teacher.forward(tokens)[0]
        student, teacher = (
            torch.log_softmax(x[:, :-1].reshape(-1, self.shape.vocab_size) / TEACHER_TEMPERATURE, dim=-1)
            for x in (logits, of_teacher)
        )
        return TEACHER_TEMPERATURE**2 * (teacher.exp() * (teacher - student)).sum(dim=-1).mean()

    def distance_of_streams(self):
        """2 - 2 cos between rows of the streams of the last forward passes, the mean over rows and pairs of blocks."""
        cosines = [
            F.cosine_similarity(self.streams[own], self.teacher.streams[other].detach(), dim=-1, eps=0)
            for own, other in LAYER_PAIRS
        ]
        return 2 - 2 * torch.stack(cosines).mean()

    def _target_losses(self, logits, tokens):
        """Cross-entropies in nats: each token predicts the next one, and the last one nothing."""
        predicting = logits[:, :-1].reshape(-1, self.shape.vocab_size)
        return F.cross_entropy(predicting, tokens[:, 1:].reshape(-1), reduction="none")

    def objective(self, tokens, step):
        """What the training step minimizes, the loss of each target, and the attention weights."""
        logits, attention_weights = self.forward(tokens, training_step=step)
        losses = self._target_losses(logits, tokens)
        objective = losses.mean()
        if self.configuration.objective == "entropy_penalty":
            objective = objective + self.penalty(attention_weights)
        elif self.configuration.objective == "sparse_hidden":
            objective = objective + self.hidden_penalty()
        elif self.configuration.objective == "steady_scale":
            objective = objective + self.spread_penalty() + self.anchor_penalty()
        elif self.configuration.objective == "distillation":
            objective = (1 - TEACHER_WEIGHT) * objective + TEACHER_WEIGHT * self.divergence(logits, tokens)
            objective = objective + HIDDEN_WEIGHT * self.distance_of_streams()
        return objective, losses, attention_weights

    def loss(self, tokens):
        """Mean cross-entropy in nats of windows (B, T)."""
        return self._target_losses(self.forward(tokens)[0], tokens).mean()

    def evaluate(self, windows, batch=64):
        """The loss of every target of windows (N, T), and the mean entropy of every head [layer][head]."""
        losses, entropies = [], 0.0
        with torch.no_grad():
            for tokens in windows.split(batch):
                logits, attention = self.forward(tokens)
                losses.append(self._target_losses(logits, tokens))
                entropies = entropies + torch.stack([head_entropies(a).sum(dim=(0, 2)) for a in attention])
        return torch.cat(losses), entropies / windows.numel()


def head_entropies(weights):
    """The entropy in nats of every query, (B, H, T), from attention weights (B, H, T, T): the paper's equation
    8 before its mean, with 0 ln 0 = 0 in place of its small constant."""
    return -torch.where(weights > 0, weights * torch.log(weights.clamp_min(torch.finfo(weights.dtype).tiny)), 0.0).sum(dim=-1)


def dropout_numbers(number, count):
    """The 32-bit random numbers of the first `count` elements in pass `number`: Philox4x32-10 with the seed
    as its key, and as its counter which four numbers, and the stream: the name's FNV-1a hash plus
    `number`."""
    stream = 0xCBF29CE484222325
    for byte in b"dropout":
        stream = (stream ^ byte) * 0x100000001B3 % 2**64
    stream = (stream + number) % 2**64
    block = numpy.arange((count + 3) // 4, dtype=numpy.uint64)
    low, half = numpy.uint64(0xFFFFFFFF), numpy.uint64(32)
    c = [block & low, block >> half, numpy.full_like(block, stream % 2**32), numpy.full_like(block, stream >> 32)]
    keys = [DROPOUT_SEED % 2**32, DROPOUT_SEED >> 32]
    for _ in range(10):
        products = c[0] * numpy.uint64(0xD2511F53), c[2] * numpy.uint64(0xCD9E8D57)
        k0, k1 = map(numpy.uint64, keys)
        c = [(products[1] >> half) ^ c[1] ^ k0, products[1] & low, (products[0] >> half) ^ c[3] ^ k1, products[0] & low]
        keys = [(keys[0] + 0x9E3779B9) % 2**32, (keys[1] + 0xBB67AE85) % 2**32]
    return numpy.stack(c, axis=1).reshape(-1)[:count]


def rotated(x, dims):
    """Rotary positions in the first `dims` channels of (B, H, T, head_dim), as complex numbers: channel c is the real
    and channel c + dims / 2 the imaginary part of one that position t multiplies by e^(i t f_c)."""
    half = dims // 2
    number = torch.complex(x[..., :half], x[..., half:dims])
    frequencies = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(x.shape[2], dtype=torch.float64)[:, None] * frequencies
    number = number * torch.polar(torch.ones_like(angles), angles).to(number.dtype)
    return torch.cat([number.real, number.imag, x[..., dims:]], dim=-1)


def learning_rate(step, steps, peak, warmup_ratio, floor=1e-7):
    """The rate of step 0, 1, ...: linear from 0 over the warm-up, then linear down to the floor."""
    warmup = math.ceil(warmup_ratio * steps)
    if step < warmup:
        return peak * step / warmup
    return floor + (peak - floor) * (1 - (step - warmup) / (steps - warmup))


def is_setting(name):
    """Whether a number is set, not learned."""
    return name.endswith((".gate", ".scale"))


class Removal:
    """Removes the norms of a model during `steps` optimizer steps: "tapered" ones together along a cosine,
    "staged" ones one after another, those of feed-forward networks, of queries and keys, of values, the final one."""

    def __init__(self, model, steps):
        self.model, self.kind = model, model.configuration.norm
        self.first, self.last = round(REMOVAL_FROM * steps), round(REMOVAL_TO * steps)
        layers = range(model.shape.layers)
        self.order = [f"h.{layer}.{norm}" for norm in ("ln_2", "ln_1", "ln_1_v") for layer in layers]
        self.order = [name for name in [*self.order, "ln_f"] if name + ".gate" in model.weights]

    def gate(self, name, step):
        """The gate of a norm at a step of the schedule."""
        if self.kind == "staged":
            place = self.order.index(name) / (len(self.order) - 1)
            return float(step < max(1, math.floor(self.first + (self.last - self.first) * place)))
        share = (step - self.first) / (self.last - self.first)
        return (1 + math.cos(math.pi * min(max(share, 0), 1))) / 2

    def before(self, step):
        """Closes gates, which never open again."""
        for name in self.order:
            self.model.weights[name + ".gate"].clamp_(max=self.gate(name, step))

    def measured(self, variances, inverses):
        """The number that replaces the rows' own."""
        return inverses.mean() if self.kind == "staged" else (variances * inverses).sum() / variances.sum()

    def after(self, step):
        """Measures the scales of norms whose gate is 1, and that of the stream while there is such a norm."""
        if any(self.model.weights[name + ".gate"] == 1 for name in self.order):
            self.model.move_anchor(step)
        for name in self.order:
            if self.model.weights[name + ".gate"] == 1:
                scale = self.model.weights[name + ".scale"]
                scale += max(1 / (step + 1), 0.01) * (self.measured(*self.model.rows[name]) - scale)


def is_decayed(name):
    return not (name.endswith("bias") or "ln_" in name or name == "entropy_threshold")


def orthogonal(matrix, iterations=5):
    """Approximately U V^T for a matrix U S V^T, by Newton-Schulz iteration with Jordan's coefficients, from
    his description of Muon (2024), on the wider of the matrix and its transpose."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (torch.linalg.matrix_norm(x) + 1e-7)
    for _ in range(iterations):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon:
    """Muon for matrices, by name, scaled as by Liu et al. (2025): steps have the size of AdamW's. Q | K | V
    are three."""

    MOMENTUM = 0.95

    def __init__(self, matrices, weight_decay):
        self.matrices, self.weight_decay = matrices, weight_decay
        self.momentum = {name: torch.zeros_like(w) for name, w in matrices.items()}

    def step(self, rate):
        with torch.no_grad():
            for name, w in self.matrices.items():
                momentum = self.momentum[name].mul_(self.MOMENTUM).add_(w.grad)
                ahead = w.grad + self.MOMENTUM * momentum  # Nesterov's
                parts = ahead.chunk(3, dim=1) if "c_attn" in name else [ahead]
                direction = torch.cat([0.2 * max(part.shape) ** 0.5 * orthogonal(part) for part in parts], dim=1)
                w.copy_(w - rate * (direction + self.weight_decay * w))


def is_matrix_of_a_block(name):
    return name.startswith("h.") and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))


def train(model, batches, peak, warmup_ratio=0.05, weight_decay=0.1, optimizer="adamw"):
    """One optimizer step for each (B, T) of `batches`; with "muon" the blocks' matrices use Muon. Returns
    each step's target losses before its update and the gradient norm before clipping."""
    matrices = {name: w for name, w in model.weights.items() if optimizer == "muon" and is_matrix_of_a_block(name)}
    muon = Muon(matrices, weight_decay)
    rest = {name: w for name, w in model.weights.items() if name not in matrices and not is_setting(name)}
    removal = Removal(model, len(batches)) if model.configuration.norm in REMOVED_NORMS else None
    decayed = [w for name, w in rest.items() if is_decayed(name)]
    others = [w for name, w in rest.items() if not is_decayed(name)]
    adamw = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=peak,
        betas=(0.9, 0.999),
        eps=1e-8,
    )
    losses, norms = [], []
    for step, tokens in enumerate(batches):
        if removal is not None:
            removal.before(step)
        rate = learning_rate(step, len(batches), peak, warmup_ratio)
        for group in adamw.param_groups:
            group["lr"] = rate
        adamw.zero_grad()
        for w in matrices.values():
            w.grad = None
        objective, target_losses, _ = model.objective(tokens, step)
        objective.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(list(model.weights.values()), 1.0).item())
        adamw.step()
        muon.step(rate)
        if removal is not None:
            removal.after(step)
        losses.append(target_losses.detach())
    if removal is not None:
        removal.before(len(batches))
    return losses, norms
