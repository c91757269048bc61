"""Turns report.md into one self-contained HTML file, with images and style inside."""

import base64
import re

import markdown

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f4f5f7; color: #1d232b; font: 16px/1.55 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 3rem 4rem; background: #fff; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.35rem; margin: 2.8rem 0 .8rem; padding-top: 1.2rem; border-top: 1px solid #dfe3e8; }
h3 { font-size: 1.08rem; margin: 1.8rem 0 .6rem; }
p, li { max-width: 52rem; }
li { margin: .3rem 0; }
a { color: #1f4e79; }
p:has(> img) { max-width: none; }
img { display: block; max-width: 100%; margin: 1.4rem auto; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .34rem .7rem; border-bottom: 1px solid #e4e7eb; white-space: nowrap; }
th { border-bottom: 2px solid #9aa5b1; text-align: left; font-weight: 600; }
thead th { white-space: normal; vertical-align: bottom; }
tbody tr:hover { background: #f4f7fa; }
blockquote { margin: 1rem 0; padding: .2rem 1rem; border-left: 4px solid #e2862a; background: #fdf5ec; }
pre { background: #f4f5f7; padding: .8rem 1rem; overflow-x: auto; font-size: .86rem; }
.toc { font-size: .92rem; margin: 1.2rem 0; }
.toc ul { margin: 0; padding-left: 1.2rem; }
@media (max-width: 50rem) { main { padding: 1.2rem; } }
"""


def html_page(text, folder):
    """The page; `folder` holds the images that `text` names."""
    title, body = text.split("\n", 1)
    converted = markdown.markdown(
        f"{title}\n\n[TOC]\n{body}",
        extensions=["tables", "fenced_code", "sane_lists", "toc"],
        extension_configs={"toc": {"toc_depth": "2-2"}},
        output_format="html5",
    )

    def embedded(match):
        image = (folder / match["path"]).read_bytes()
        # Drawn for dense screens: shown at two thirds of its pixels. A PNG has its width at byte 16.
        width = int.from_bytes(image[16:20], "big") * 2 // 3
        return f'width="{width}" src="data:image/png;base64,{base64.b64encode(image).decode()}"'

    converted = re.sub(r'src="(?P<path>figures/[^"]+\.png)"', embedded, converted)
    converted = converted.replace("<table>", '<div class="table"><table>').replace(
        "</table>", "</table></div>"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title.lstrip('# ')}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{converted}\n"
        "</main>\n</body>\n</html>\n"
    )
