#!/usr/bin/env python3
"""One training step of the same model in PyTorch, as a careful user would write it.

    pytorch_step.py --shape gpt2|small|demo --configuration sm_ln_g|sm_ln_r|sm_g|sm_r [--threads N] [--steps N]
    pytorch_step.py --device cuda --configuration ... [--context N] [--entropy] [--batches N,N,... [--first-that-fits]]
                    [--seconds S]

Forward, backward, clipping, AdamW, on random windows; writes the median of the steps as JSON. One fused product for
queries, keys and values, PyTorch's own layer_norm, gelu and cross_entropy.

On the CPU in float, with scores masked by an addition that is part of their product. On a GPU the shape gpt2 in bf16
(autocast, float weights), compiled, its attention scaled_dot_product_attention, AdamW fused, the vocabulary padded; steps
of 65,536 tokens in passes of the fastest of --batches, or of the first that fits. --entropy also computes
every head's entropy, for which the attention weights must be materialized.
"""

import argparse
import gc
import json
import math
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

# As in shapes.hpp; `steps` are timed, at least 5.
SHAPES = {
    "gpt2": {"layers": 12, "heads": 12, "width": 768, "vocab": 50000, "positions": 1024, "batch": 4, "steps": 5},
    "small": {"layers": 4, "heads": 4, "width": 256, "vocab": 8192, "positions": 128, "batch": 16, "steps": 15},
    "demo": {"layers": 8, "heads": 4, "width": 64, "vocab": 4096, "positions": 128, "batch": 16, "steps": 31},
}
CONTEXT = 128
# On a GPU.
TOKENS_PER_STEP = 65536
PADDED_VOCABULARY = 50048  # the next multiple of 64
CONFIGURATIONS = ("sm_ln_g", "sm_ln_r", "sm_g", "sm_r")


def masked_attention(q, k, v, mask):
    """Attention of (B, H, T, D), without entropies."""
    batch, heads, length, head = q.shape
    q, k, v = (part.reshape(-1, length, head) for part in (q, k, v))
    scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=1 / math.sqrt(head))
    return torch.bmm(torch.softmax(scores, dim=-1), v).view(batch, heads, length, head), None


def fused_attention(q, k, v, _mask):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True), None


def observed_attention(q, k, v, mask):
    """Attention, and the mean entropy of each head's queries in nats."""
    weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + mask, dim=-1)
    entropies = torch.special.entr(weights.detach()).sum(dim=-1).mean(dim=(0, 2))
    return weights.to(v.dtype) @ v, entropies


class Block(nn.Module):
    def __init__(self, width, heads, norm, activation, attend):
        super().__init__()
        self.heads = heads
        self.activation = activation
        self.attend = attend
        self.ln_1 = nn.LayerNorm(width) if norm else nn.Identity()
        self.ln_2 = nn.LayerNorm(width) if norm else nn.Identity()
        std = 0.02 * math.sqrt(768 / width)

        def weight(rows, columns):
            return nn.Parameter(torch.randn(rows, columns) * std)

        self.c_attn = weight(width, 3 * width)
        self.query_key_bias = nn.Parameter(torch.zeros(2 * width))
        self.attn_c_proj = weight(width, width)
        self.c_fc = weight(width, 4 * width)
        self.mlp_c_proj = weight(4 * width, width)

    def attention(self, x, mask):
        rows, width = x.shape
        qkv = torch.addmm(F.pad(self.query_key_bias, (0, width)), x, self.c_attn)
        qkv = qkv.view(-1, mask.shape[-1], 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y, entropies = self.attend(*qkv.unbind(0), mask)
        return y.transpose(1, 2).reshape(rows, width) @ self.attn_c_proj, entropies

    def forward(self, x, mask):
        attended, entropies = self.attention(self.ln_1(x), mask)
        x = x + attended
        return x + self.activation(self.ln_2(x) @ self.c_fc) @ self.mlp_c_proj, entropies


class Model(nn.Module):
    """A Pre-LN GPT-2 with or without norms, with biases only for queries and keys, and tied logits."""

    def __init__(self, shape, configuration, attend=masked_attention, context=CONTEXT):
        super().__init__()
        width = shape["width"]
        norm = "ln" in configuration
        activation = F.gelu if configuration.endswith("g") else F.relu
        std = 0.02 * math.sqrt(768 / width)
        self.wte = nn.Parameter(torch.randn(shape["vocab"], width) * std)
        self.wpe = nn.Parameter(torch.randn(shape["positions"], width) * std)
        self.blocks = nn.ModuleList(
            Block(width, shape["heads"], norm, activation, attend) for _ in range(shape["layers"])
        )
        self.ln_f = nn.LayerNorm(width)
        self.register_buffer("mask", torch.full((1, context, context), -math.inf).triu(1), persistent=False)

    def loss(self, tokens, targets):
        return self(tokens, targets)[0]

    def forward(self, tokens, targets):
        """The loss, and the head entropies of each layer."""
        x = F.embedding(tokens, self.wte) + self.wpe[: tokens.shape[1]]
        x = x.view(-1, x.shape[-1])
        entropies = []
        for block in self.blocks:
            x, of_heads = block(x, self.mask)
            entropies.append(of_heads)
        return F.cross_entropy(self.ln_f(x) @ self.wte.T, targets.view(-1), ignore_index=-1), entropies


def optimizer_of(model, **options):
    """AdamW with decay only on weights."""
    decayed = [p for p in model.parameters() if p.dim() == 2]
    plain = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-5, betas=(0.9, 0.999), eps=1e-8, **options)


def blas_in_use():
    """The file of the BLAS that this process loaded."""
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        files = {line.split()[-1] for line in maps if "blas" in line.lower() and "/" in line}
    return sorted(files)


def measure(shape_name, configuration, steps):
    shape = SHAPES[shape_name]
    torch.manual_seed(1)
    model = Model(shape, configuration)
    optimizer = optimizer_of(model)
    parameters = list(model.parameters())

    def step():
        tokens = torch.randint(shape["vocab"], (shape["batch"], CONTEXT))
        targets = F.pad(tokens[:, 1:], (0, 1), value=-1)
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        model.loss(tokens, targets).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return time.perf_counter() - start

    step()
    seconds = [step() for _ in range(steps)]
    median = statistics.median(seconds)
    return {
        "shape": shape_name,
        "configuration": configuration,
        "threads": torch.get_num_threads(),
        "steps": steps,
        "median_step_ms": 1e3 * median,
        "tokens_per_second": shape["batch"] * CONTEXT / median,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-6,
        "parameters": sum(p.numel() for p in parameters),
        "torch": torch.__version__,
        "blas": blas_in_use(),
    }


def measure_on_gpu(configuration, context, entropy, batches, first_that_fits, seconds):
    """The fastest of `batches` windows in a pass, or the first that fits in memory."""
    if not torch.cuda.is_available():
        sys.exit("pytorch_step.py: PyTorch finds no GPU")
    torch.set_float32_matmul_precision("high")
    runs = []
    for batch in batches:
        torch.compiler.reset()
        gc.collect()  # a compiled model refers to itself
        torch.cuda.empty_cache()
        try:
            runs.append(measure_batch_on_gpu(configuration, context, entropy, batch, seconds))
        except torch.cuda.OutOfMemoryError:
            continue
        if first_that_fits:
            break
    if not runs:
        sys.exit(f"pytorch_step.py: none of {batches} windows of {context} tokens fits the GPU's memory")
    best = max(runs, key=lambda run: run["tokens_per_second"])
    return best | {"tried": {run["batch"]: run["tokens_per_second"] for run in runs}}


def measure_batch_on_gpu(configuration, context, entropy, batch, seconds):
    shape = SHAPES["gpt2"] | {"vocab": PADDED_VOCABULARY}
    passes = max(1, TOKENS_PER_STEP // (batch * context))
    torch.manual_seed(1)
    torch.cuda.reset_peak_memory_stats()
    with torch.device("cuda"):
        model = Model(shape, configuration, observed_attention if entropy else fused_attention, context)
    optimizer = optimizer_of(model, fused=True)
    parameters = list(model.parameters())
    forward = torch.compile(model)

    def step():
        tokens = torch.randint(SHAPES["gpt2"]["vocab"], (passes, batch, context), device="cuda")
        targets = F.pad(tokens[:, :, 1:], (0, 1), value=-1)
        torch.cuda.synchronize()
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        for number in range(passes):
            with torch.autocast("cuda", torch.bfloat16):
                loss, _entropies = forward(tokens[number], targets[number])
            (loss / passes).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    for _ in range(3):
        step()
    times, started = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - started < seconds:
        times.append(step())
    median = statistics.median(times)
    return {
        "configuration": configuration,
        "context": context,
        "entropy": entropy,
        "batch": batch,
        "passes": passes,
        "steps": len(times),
        "median_step_ms": 1e3 * median,
        "tokens_per_second": passes * batch * context / median,
        "peak_memory_gb": 1e-9 * torch.cuda.max_memory_reserved(),
        "torch": torch.__version__,
    }


def main():
    parser = argparse.ArgumentParser(description="Times a training step in PyTorch and writes JSON.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", choices=SHAPES, default="gpt2")
    parser.add_argument("--configuration", choices=CONFIGURATIONS, required=True)
    parser.add_argument("--threads", type=int, default=0, help="default: all, and one for the demo")
    parser.add_argument("--steps", type=int, default=0, help="timed steps; default: as many as lnfree's benchmark")
    parser.add_argument("--context", type=int, default=CONTEXT, help="tokens of a window, on a GPU")
    parser.add_argument("--entropy", action="store_true", help="the heads' entropies in every pass, on a GPU")
    parser.add_argument("--batches", default="128", help="windows of a pass to try, on a GPU, as 64,128")
    parser.add_argument("--first-that-fits", action="store_true", help="use the first of --batches that fits, and try no other")
    parser.add_argument("--seconds", type=float, default=5, help="time for the steps of each batch, on a GPU")
    options = parser.parse_args()
    if options.device == "cuda":
        batches = [int(batch) for batch in options.batches.split(",")]
        result = measure_on_gpu(
            options.configuration, options.context, options.entropy, batches, options.first_that_fits, options.seconds
        )
        json.dump(result, sys.stdout, indent=2)
        print()
        return
    if options.threads < 0 or options.steps < 0:
        parser.error("--threads and --steps must not be negative")
    threads = options.threads or (1 if options.shape == "demo" else 0)
    if threads:
        torch.set_num_threads(threads)
    result = measure(options.shape, options.configuration, options.steps or SHAPES[options.shape]["steps"])
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
