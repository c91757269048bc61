#!/usr/bin/env python3
"""Filters a Markdown page for Doxygen.

    page_filter.py PAGE.md

GitHub and Doxygen differ in formulas ($x$), in the anchors of headings and in links between pages. A link to
a file that is not a page becomes its text. Line numbers do not change.
"""

import re
import sys
from pathlib import Path

FENCE = re.compile(r"^(```|~~~)")
HEADING = re.compile(r"^(#+) (.*)$")
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\(([^)\s#]*)(?:#([^)\s]*))?\)")
CODE = re.compile(r"(`+[^`]*`+)")


def anchor_of(page, heading):
    """A unique label for a heading: the page's name and GitHub's anchor."""
    slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    return f"{page}--{slug}"


def link(page, match):
    image, text, path, anchor = match.groups()
    if "://" in path:
        return match[0]
    if image:
        return f"![{text}]({Path(path).name})"
    target = Path(path).stem.lower() if path else page
    if path and not path.endswith(".md"):
        return text
    if target == "readme":
        return f"[{text}](@ref index)"
    return f"[{text}](@ref {anchor_of(target, anchor) if anchor else target})"


def formulas(text, in_formula):
    """Converts text outside of code; returns whether it ends within a multi-line formula."""
    parts = text.split("$$")
    for i in range(len(parts)):
        if not in_formula:
            parts[i] = parts[i].replace("$", r"\f$")
        if i + 1 < len(parts):
            parts[i] += r"\f]" if in_formula else r"\f["
            in_formula = not in_formula
    return "".join(parts), in_formula


def paragraph(page, line, in_formula):
    # Links first, since they may hold code.
    pieces = CODE.split(LINK.sub(lambda match: link(page, match), line))
    for i in range(0, len(pieces), 2):
        pieces[i], in_formula = formulas(pieces[i], in_formula)
    return "".join(pieces), in_formula


def main():
    path = Path(sys.argv[1])
    page = path.stem.lower()
    fenced = in_formula = False
    labels = {}  # how often each has occurred
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        heading = HEADING.match(line)
        if FENCE.match(line):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            pass
        elif line.startswith("<!--"):
            line = ""
        elif heading and page != "readme":
            label = page if number == 0 else anchor_of(page, heading[2])
            labels[label] = labels.get(label, -1) + 1
            label += f"-{labels[label]}" if labels[label] else ""
            line = f"{heading[1]} {heading[2]} {{#{label}}}"
        else:
            line, in_formula = paragraph(page, line, in_formula)
        print(line)


if __name__ == "__main__":
    main()
