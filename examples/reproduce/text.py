"""Numbers, sentences and tables as Markdown."""

import math


def number_text(value, form=".2f", missing="n/a"):
    """A number, with a true minus sign."""
    return format(value, form).replace("-", "−") if math.isfinite(value) else missing


def signed(percent):
    return number_text(percent, "+.2f") if not abs(percent) < 0.005 else "0.00"


def direction(percent):
    """-4.9 as "4.9 % below"."""
    return f"{abs(percent):.1f} % {'below' if percent < 0 else 'above'}"


def names(labels):
    """["a", "b", "c"] as "a, b and c"."""
    labels = list(labels)
    return " and ".join(filter(None, [", ".join(labels[:-1]), *labels[-1:]]))


def table(header, rows):
    """A Markdown table, its columns after the first aligned to the right."""
    return "\n".join(
        "| " + " | ".join(row) + " |" for row in [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    )


def bullets(sentences):
    return "\n".join("- " + sentence for sentence in sentences if sentence)


def conclusion(found, limits):
    """What an experiment found and what it cannot show, one sentence each."""
    return bullets([f"**Found:** {found}", f"**What this cannot show:** {limits}"])


def image(alt, name):
    return f"![{alt}](figures/{name}.png)"
