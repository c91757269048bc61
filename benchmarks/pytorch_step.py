#!/usr/bin/env python3
"""One training step of the same model in PyTorch on the CPU, in float: what a careful user would write.

    pytorch_step.py --shape gpt2|small|demo --configuration sm_ln_g|sm_ln_r|sm_g|sm_r [--threads N] [--steps N]

Forward, backward, clipping, AdamW, on random windows; writes the median of the steps as JSON. One fused product for
queries, keys and values, PyTorch's own layer_norm, gelu, softmax and cross_entropy, scores masked by an addition that is
part of their product.
"""

import argparse
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
CONFIGURATIONS = ("sm_ln_g", "sm_ln_r", "sm_g", "sm_r")


class Block(nn.Module):
    def __init__(self, width, heads, norm, activation):
        super().__init__()
        self.heads = heads
        self.activation = activation
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
        head = width // self.heads
        qkv = torch.addmm(F.pad(self.query_key_bias, (0, width)), x, self.c_attn)
        qkv = qkv.view(-1, CONTEXT, 3, self.heads, head).permute(2, 0, 3, 1, 4)
        q, k, v = (part.reshape(-1, CONTEXT, head) for part in qkv.unbind(0))
        scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=1 / math.sqrt(head))
        y = torch.bmm(torch.softmax(scores, dim=-1), v)
        y = y.view(-1, self.heads, CONTEXT, head).transpose(1, 2).reshape(rows, width)
        return y @ self.attn_c_proj

    def forward(self, x, mask):
        x = x + self.attention(self.ln_1(x), mask)
        return x + self.activation(self.ln_2(x) @ self.c_fc) @ self.mlp_c_proj


class Model(nn.Module):
    """A Pre-LN GPT-2 with or without norms, biases of queries and keys alone, tied logits."""

    def __init__(self, shape, configuration):
        super().__init__()
        width = shape["width"]
        norm = "ln" in configuration
        activation = F.gelu if configuration.endswith("g") else F.relu
        std = 0.02 * math.sqrt(768 / width)
        self.wte = nn.Parameter(torch.randn(shape["vocab"], width) * std)
        self.wpe = nn.Parameter(torch.randn(shape["positions"], width) * std)
        self.blocks = nn.ModuleList(Block(width, shape["heads"], norm, activation) for _ in range(shape["layers"]))
        self.ln_f = nn.LayerNorm(width)
        self.register_buffer("mask", torch.full((1, CONTEXT, CONTEXT), -math.inf).triu(1), persistent=False)

    def loss(self, tokens, targets):
        x = F.embedding(tokens, self.wte) + self.wpe[:CONTEXT]
        x = x.view(-1, x.shape[-1])
        for block in self.blocks:
            x = block(x, self.mask)
        return F.cross_entropy(self.ln_f(x) @ self.wte.T, targets.view(-1), ignore_index=-1)


def optimizer_of(model):
    """AdamW with decay on weights alone."""
    decayed = [p for p in model.parameters() if p.dim() == 2]
    plain = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-5, betas=(0.9, 0.999), eps=1e-8)


def blas_in_use():
    """The file of the BLAS that this process has loaded."""
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


def main():
    parser = argparse.ArgumentParser(description="Times a training step in PyTorch and writes JSON.")
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--configuration", choices=CONFIGURATIONS, required=True)
    parser.add_argument("--threads", type=int, default=0, help="default: all, and one for the demo")
    parser.add_argument("--steps", type=int, default=0, help="timed steps; default: as many as lnfree's benchmark")
    options = parser.parse_args()
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
