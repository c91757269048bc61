"""Builds the site from the pages and headers without a warning, and checks its links.

    check_site.py ROOT DOXYGEN DOXYFILE

Each page of docs/ and each concept must be a page of the site, and every link within the site must have a
target.
"""

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

root, doxygen, doxyfile = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
settings = doxyfile.read_text()
site = Path(re.search(r"^OUTPUT_DIRECTORY *= (.*)", settings, re.MULTILINE)[1]) / "html"
shutil.rmtree(site, ignore_errors=True)  # pages of headers that have been renamed
result = subprocess.run([doxygen, doxyfile], capture_output=True, text=True)
if result.returncode != 0 or "warning:" in result.stderr:
    sys.exit(f"check_site.py: Doxygen ended with status {result.returncode}:\n{result.stderr}")

pages = {file.name: file.read_text(encoding="utf-8") for file in site.glob("*.html")}
anchors = {name: set(re.findall(r'\b(?:id|name)="([^"]+)"', text)) for name, text in pages.items()}
faults = []
for page in (root / "docs").glob("*.md"):
    title = page.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
    if f'<div class="title">{html.escape(title, quote=False)}' not in pages.get(f"{page.stem}.html", ""):
        faults.append(f"docs/{page.name} is not there as {page.stem}.html with the title {title}")
headers = [*(root / "include/lnfree/core").glob("*.hpp"), *(root / "include/lnfree/objective").glob("*.hpp")]
concepts = re.findall(r"^concept (\w+)", "\n".join(header.read_text() for header in headers), re.MULTILINE)
for concept in concepts:
    if f"conceptlnfree_1_1{concept}.html" not in pages:
        faults.append(f"the concept {concept} has no page")
for name, text in pages.items():
    for link in set(re.findall(r'<a\s[^>]*\bhref="([^"]+)"', text)):
        target, _, anchor = unquote(html.unescape(link)).partition("#")
        target = target or name
        if re.match(r"\w+:", link) or anchor == "nested-classes":  # Doxygen also links to private ones
            continue
        if not (site / target).exists() or (anchor and target in anchors and anchor not in anchors[target]):
            faults.append(f"{name} links to {link}, which is not there")
    if re.search(r"(?<!\\)\$[^$<]+\\\w+", re.sub(r"<(pre|code|script).*?</\1>", "", text, flags=re.DOTALL)):
        faults.append(f"{name} shows a formula as it was typed")
for fault in faults:
    print(f"check_site.py: {fault}", file=sys.stderr)
print(f"{len(pages)} pages, {len(concepts)} concepts, {len(faults)} faults")
sys.exit(1 if faults or not concepts else 0)
