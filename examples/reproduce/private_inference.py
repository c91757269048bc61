"""The cost of a configuration's nonlinearities in private inference: counts from the shape, and costs only
from published measurements.

Costs are attributed only as far as the publications separate them. The measurements below are of whole models
that differ in the activation, so they give the extra cost of GELU over ReLU and an upper bound for LayerNorm
together with ReLU, but nothing for softmax.
"""

from dataclasses import dataclass

from configurations import CONFIGURATIONS, SHAPES
from text import bullets, table

# Activations composed of other operations; any other activation is one operation.
COMPOSED = {
    "LeakyLearnable": ("ReLU", "products"),  # slope * x + (1 - slope) * ReLU(x)
    "SquaredReLU": ("ReLU", "products"),
}
# Policies without a norm in the finished model: norms that training removes are folded into matrices.
WITHOUT_NORM = ("Identity", "Tapered", "Staged")


@dataclass(frozen=True)
class Measurement:
    """Private inference of GPT-2 (width 768, 12 heads, FFN 3072) on `context` tokens, whole model, as
    published."""

    where: str
    layers: int
    context: int
    gelu: tuple  # SM + LN + G: (GB, minutes)
    relu: tuple  # SM + LN + R
    softmax_only: tuple  # neither LayerNorm nor activation, the FFN's two matrices merged into one

    @property
    def elements(self):
        """Values that pass the activation."""
        return self.layers * self.context * 3072

    @property
    def bytes_per_gelu(self):
        """Extra bytes that GELU sends compared with ReLU."""
        return 1e9 * (self.gelu[0] - self.relu[0]) / self.elements

    @property
    def seconds_per_gelu(self):
        return 60 * (self.gelu[1] - self.relu[1]) / self.elements


SOURCE = (
    "N. K. Jha and B. Reagen, *Entropy-Guided Attention for Private LLMs*, arXiv:2501.03489v2, 2025. Two "
    "parties, semi-honest; SecretFlow with the protocols of BumbleBee (Lu et al., NDSS 2025); two machines "
    "with an AMD EPYC 7502 (32 threads each) over 100 Mbit/s with 80 ms latency"
)
MEASUREMENTS = (
    Measurement("table 3", 12, 128, (25.32, 8.21), (9.44, 6.06), (6.43, 4.76)),
    Measurement("table 8", 18, 128, (37.17, 10.77), (13.34, 8.04), (8.83, 6.07)),
    Measurement("table 7", 12, 256, (58.51, 16.57), (26.73, 12.59), (20.72, 10.45)),
    Measurement("table 4", 12, 512, (145.24, 30.74), (81.71, 23.54), (69.68, 19.44)),
)


def counts(config, shape):
    """Nonlinear operations per token and layer: values through the activation by name, rows normalized (and
    their values), rows and values of softmax (of all keys: a protocol that uses the mask needs half)."""
    configuration, sizes = CONFIGURATIONS[config], SHAPES[shape]
    found = {}
    for activation, layers in configuration.layers_by_activation(sizes.layers).items():
        for name in COMPOSED.get(activation, (activation,)):
            found[name] = found.get(name, 0) + sizes.ffn_width * layers / sizes.layers
    if configuration.norm in ("DynamicTanh", "DynamicErf"):
        found[configuration.norm] = 2 * sizes.width
    elif configuration.norm not in WITHOUT_NORM:
        found[f"{configuration.norm} rows"] = 2
        found[f"{configuration.norm} values"] = 2 * sizes.width
    found["softmax rows"] = sizes.heads
    found["softmax values"] = sizes.heads * sizes.context
    return found


def counts_table(configs, shape):
    found = {config: counts(config, shape) for config in configs}
    names = list(dict.fromkeys(name for each in found.values() for name in each))
    names.sort(key=lambda name: name.startswith("softmax"))
    rows = [
        [CONFIGURATIONS[config].label, *(f"{each[name]:,.0f}" if name in each else "0" for name in names)]
        for config, each in found.items()
    ]
    return table(["Per token and layer", *names], rows)


def _span(values, form):
    low, high = (format(value, form) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def measurements_table():
    rows = [
        [
            f"{each.where}: {each.layers} layers, T = {each.context}",
            *(f"{value:.2f}" for pair in (each.gelu, each.relu) for value in pair),
            f"{each.bytes_per_gelu:,.0f}",
            f"{1e6 * each.seconds_per_gelu:.1f}",
        ]
        for each in MEASUREMENTS
    ]
    header = ["Published", "SM + LN + G: GB", "minutes", "SM + LN + R: GB", "minutes"]
    return table([*header, "GELU over ReLU: bytes a value", "microseconds a value"], rows)


def activation_sentence(shape):
    """The extra cost of GELU over ReLU in a whole model, by the published differences."""
    sizes = SHAPES[shape]
    values = sizes.layers * sizes.context * sizes.ffn_width
    traffic = [values * each.bytes_per_gelu / 1e9 for each in MEASUREMENTS]
    minutes = [values * each.seconds_per_gelu / 60 for each in MEASUREMENTS]
    return (
        f"GELU instead of ReLU in {shape}, all layers and tokens ({values:,} values): "
        f"**{_span(traffic, '.2f')} GB and {_span(minutes, '.2f')} minutes more**, by the published "
        "differences below."
    )


def findings():
    """What the published costs show, what they do not show, and their sources."""
    first = MEASUREMENTS[0]
    bound = [first.relu[i] - first.softmax_only[i] for i in (0, 1)]
    return [
        f"ReLU, LayerNorm and the wider FFN together account for {bound[0]:.2f} GB and {bound[1]:.2f} "
        f"minutes of SM + LN + R ({first.where}: a model with softmax alone and the FFN's matrices merged "
        f"takes {first.softmax_only[0]} GB and {first.softmax_only[1]} minutes), so removing LayerNorm saves less than that.",
        "No cost of its own is cited for LayerNorm, other norms, softmax, SiLU or products: the counts stand "
        "alone.",
        f"Source: {SOURCE}.",
    ]


def section(shape, configs):
    """The costs of private inference of a shape, and of the GPT-2 of the published costs."""
    parts = ["## Private inference"]
    for name in dict.fromkeys((shape, "gpt2")):
        sizes = SHAPES[name]
        parts += [
            f"Nonlinear operations of one token in one layer of {name} ({sizes.heads} heads, width "
            f"{sizes.width}, FFN {sizes.ffn_width}, {sizes.context} tokens; softmax without use of the "
            "causal mask; a final norm would be one row more per token, once):",
            counts_table(configs, name),
            activation_sentence(name),
        ]
    return [*parts, measurements_table(), bullets(findings())]
