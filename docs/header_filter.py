#!/usr/bin/env python3
"""What Doxygen reads in place of a header: the same header, with a docstring on members that mean the same everywhere.

    header_filter.py HEADER.hpp

Every norm has a `name`, every activation a `value`: they are explained here, once. A docstring in the header counts more. One
that is of several variables of a line is of each of them. Lines keep their numbers.
"""

import re
import sys
from pathlib import Path

CONVENTIONS = [
    (r"(constexpr )?bool operator==\(const \w+&\) const = default", "Whether all members are equal."),
    (r"static constexpr (std::string_view|auto) name\b", "Its name in config.json, metrics and tables."),
    (r"static constexpr Saved saved\b", "What derivative() is given."),
    (r"static constexpr std::array parameters\b", "What is learned, in the order in which value() takes it."),
    (r"static constexpr double epsilon\b", "What is added to the variance."),
    (r"static constexpr int operations\b", "Floating-point operations for an element."),
    (r"static constexpr bool observes_\w+", "Asks for a quantity (docs/adding-an-observer.md)."),
    (r"using Scalar =", "What activations, and weights in products, are stored in."),
    (r"using Accumulator =", "What sums, statistics, gradients and master weights are kept in."),
    (r"using Device =", "The device that computes."),
    (r"using Options =", "What is chosen at run time."),
    (r"(LNFREE_HOST_DEVICE )?static T value\(", "The function itself, of one element."),
    (r"(LNFREE_HOST_DEVICE )?static T derivative\(", "The derivative of value(), of what `saved` says."),
    (r"LNFREE_HOST_DEVICE static RowStatistics<T> statistics\(", "What value() is given of a row."),
    (r"LNFREE_HOST_DEVICE (T|void|auto) operator\(\)\(", "Computes one element."),
    (r"(LNFREE_HOST_DEVICE )?(friend |constexpr )*[\w&]+ operator[-+*/<>=]+\(", "As for numbers."),
    (r"std::uint64_t seed = ", "Of the random numbers."),
    (r"static auto wire\(auto& layout, auto x\)", "The stream after a block, of the stream `x` before it."),
    (r"(\w+)\(\1&& other\) noexcept", "Takes over what `other` holds."),
    (r"(\w+)& operator=\(\1&& other\) noexcept", "Takes over what `other` holds."),
    (r"explicit (\w+)\(int layers, int heads\)|(\w+)\(int layers, int( heads)?\)", "For a model of that many layers and heads."),
    (r"(\w+)\(Model& model, const Options& options = \{\}\)", "For the parameters of `model`, which must outlive it."),
    (r"(\w+)\(Model& model, const Options& options = \{\}, Share share = \{\}\)", "For the parameters of `model`, which must outlive it."),
    (r"static constexpr int max_leaves\b", "Into how many parts the passes of a step are divided at most."),
    (r"(static constexpr )?int rank\(\)", "This process among them."),
    (r"(static constexpr )?int size\(\)", "How many processes there are."),
    (r"(static constexpr )?int local_size\(\)", "How many of them share this machine."),
    (r"(static )?std::vector<double> gather\(", "The numbers of all ranks, in their order."),
    (r"(static )?void broadcast\(", "Brings the bytes of one rank to all."),
    (r"(static )?void exchange\(int", "Swaps bytes with another rank."),
    (r"(static )?void barrier\(\)", "Waits for all ranks."),
    (r"(static )?std::uint64_t bytes_sent\(\)", "What exchange() has sent so far."),
    (r"(static )?double seconds_waited\(\)", "How long calls have taken so far."),
    (r"static constexpr const char\* name =", "Its name in a profile."),
    (r"static constexpr double operations =", "Operations for an element."),
    (r"using T = typename Device::Accumulator", "What is summed."),
    (r"static constexpr bool whole_matrices\b", "Whether it needs whole weight matrices."),
    (r"double step\(double learning_rate\)", "Updates all parameters and clears their gradients; returns the gradients' norm."),
]
PATTERNS = [(re.compile(r"\s*(?:" + pattern + ")"), text) for pattern, text in CONVENTIONS]

VARIABLES = re.compile(r"(\s+)([\w:]+) (\w+(?: = \w+)?(?:, \w+(?: = \w+)?)+);(?:\s*///< (.*))?")


def main():
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    for i, line in enumerate(lines):
        variables = VARIABLES.match(line)
        if variables and (variables[4] or lines[i - 1].strip().startswith("/// ")):
            indent, kind, names, after = variables.groups()
            text = after or lines[i - 1].strip().removeprefix("/// ")
            each = [f"{kind} {name}; /**< {text} */" for name in names.split(", ")]
            lines[i] = indent + " ".join(each if after else [each[0].split(" /**<")[0], *each[1:]])
            continue
        text = next((text for pattern, text in PATTERNS if pattern.match(line)), None)
        if text is None or "///<" in line:
            continue
        first = i
        while lines[first - 1].strip().startswith(("template ", "requires ")):
            first -= 1
        if not lines[first - 1].strip().startswith("///"):
            indent = len(lines[first]) - len(lines[first].lstrip())
            lines[first] = f"{lines[first][:indent]}/** {text} */ {lines[first][indent:]}"
    print("\n".join(lines))


if __name__ == "__main__":
    main()
