#!/usr/bin/env python3
"""Filters a header for Doxygen: adds a docstring to members that mean the same everywhere.

    header_filter.py HEADER.hpp

Every norm has a `name`, every activation a `value`: they are explained here once. A docstring in the header
takes precedence. A docstring for several variables on a line is applied to each of them. Line numbers do not
change.
"""

import re
import sys
from pathlib import Path

CONVENTIONS = [
    (r"(constexpr )?bool operator==\(const \w+&\) const = default", "Whether all members are equal."),
    (r"static constexpr (std::string_view|auto) name\b", "Its name in config.json, metrics and tables."),
    (r"static constexpr Saved saved\b", "What derivative() takes: the input or the output."),
    (r"static constexpr std::array parameters\b", "The learned parameters, in the order of value()'s argument."),
    (r"static constexpr double epsilon\b", "Added to the variance."),
    (r"static constexpr int operations\b", "Floating-point operations per element."),
    (r"static constexpr bool observes_\w+", "Asks for a quantity (docs/adding-an-observer.md)."),
    (r"using Scalar =", "The type that stores activations and the weights of products."),
    (r"using Accumulator =", "The type of sums, statistics, gradients and master weights."),
    (r"using Device =", "The device that computes."),
    (r"using Options =", "The run-time options."),
    (r"(LNFREE_HOST_DEVICE )?static T value\(", "The function of one element."),
    (r"(LNFREE_HOST_DEVICE )?static T derivative\(", "The derivative of value(), from what `saved` selects."),
    (r"LNFREE_HOST_DEVICE static RowStatistics<T> statistics\(", "Computes what value() is given of a row."),
    (r"LNFREE_HOST_DEVICE (T|void|auto) operator\(\)\(", "Computes one element."),
    (r"(LNFREE_HOST_DEVICE )?(friend |constexpr )*[\w&]+ operator[-+*/<>=]+\(", "Like that of numbers."),
    (r"std::uint64_t seed = ", "The random seed."),
    (r"static auto wire\(auto& layout, auto x\)", "The stream after a block, given the stream `x` before it."),
    (r"(\w+)\(\1&& other\) noexcept", "Takes over what `other` holds."),
    (r"(\w+)& operator=\(\1&& other\) noexcept", "Takes over what `other` holds."),
    (r"explicit (\w+)\(int layers, int heads\)|(\w+)\(int layers, int( heads)?\)", "For a model of that many layers and heads."),
    (r"(\w+)\(Model& model, const Options& options = \{\}\)", "For the parameters of `model`, which must outlive it."),
    (r"(\w+)\(Model& model, const Options& options = \{\}, Share share = \{\}\)", "For the parameters of `model`, which must outlive it."),
    (r"static constexpr int max_leaves\b", "The maximum number of parts of a step's passes."),
    (r"(static constexpr )?int rank\(\)", "The number of this process."),
    (r"(static constexpr )?int size\(\)", "The number of processes."),
    (r"(static constexpr )?int local_size\(\)", "The number of processes on this machine."),
    (r"(static )?std::vector<double> gather\(", "The numbers of all ranks, in rank order."),
    (r"(static )?void broadcast\(", "Copies the bytes of one rank to all."),
    (r"(static )?void exchange\(int", "Exchanges bytes with another rank."),
    (r"(static )?void barrier\(\)", "Waits for all ranks."),
    (r"(static )?std::uint64_t bytes_sent\(\)", "Bytes sent by exchange() so far."),
    (r"(static )?double seconds_waited\(\)", "Total time of the calls so far."),
    (r"static constexpr const char\* name =", "Its name in a profile."),
    (r"static constexpr double operations =", "Operations per element."),
    (r"using T = typename Device::Accumulator", "The type of the summed numbers."),
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
