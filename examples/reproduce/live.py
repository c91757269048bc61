#!/usr/bin/python3
"""A page that shows runs while they train: state, loss, throughput, entropy of every head. Reads only the
files that trainers write, and serves this machine only (127.0.0.1).

    live.py FOLDER [--port N]    FOLDER of one run (a trainer's --out) or of reproduce.sh (its --out)
"""

import argparse
import base64
import math
import struct
import sys
import threading
import time
import zlib
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from comparison import largest_possible_entropy
from files import ReproduceError, read_json
from metrics import Metrics
from page import STYLE
from progress import duration
from runs import Spec, tokens_of_step

HOST, PORT = "127.0.0.1", 8765
REFRESH_SECONDS = 2
# A run whose metrics have not grown for this long is no longer called training.
SILENT_SECONDS = 120
# Limits of a curve and a heat map; more points are averaged, or dropped evenly.
POINTS, COLUMNS = 120, 240
COLORS = ("#1f4e79", "#e2862a", "#b7371c", "#5fa8d3", "#3f7d4e", "#8a5aa8", "#c2a83e", "#6b6b6b", "#d1698c", "#2b9c9c")
# Matplotlib's viridis, at equal distances.
VIRIDIS = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
    (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37),
)  # fmt: skip
NO_NUMBER = (207, 207, 207)

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}
main {{ max-width: 76rem; }}
.charts {{ display: flex; flex-wrap: wrap; gap: 1rem 2rem; }}
.charts svg {{ flex: 1 1 30rem; max-width: 46rem; }}
.maps {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.2rem 2rem; }}
.maps figure {{ margin: 0; }} .maps figcaption {{ font-size: .86rem; margin-bottom: .3rem; }}
.maps img {{ width: 100%; height: 11rem; margin: 0; image-rendering: pixelated; }}
.maps small {{ display: flex; justify-content: space-between; color: #555; }}
.bar {{ display: inline-block; width: 9rem; height: .7rem; background: #e4e7eb; }}
.bar i {{ display: block; height: 100%; background: #1f4e79; }}
.scale {{ display: inline-block; width: 10rem; height: .7rem; background: linear-gradient(to right, {scale}); }}
#ended {{ display: none; }}
</style></head><body><main><h1>{title}</h1>
<blockquote id="ended">No longer served: the job has ended or was stopped. This is its last
state.</blockquote> <div id="content">{content}</div></main> <script> async function refresh() {{
  let ended = false;
  try {{
    const answer = await fetch("/content", {{cache: "no-store"}});
    if (answer.ok) document.getElementById("content").innerHTML = await answer.text();
  }} catch (error) {{
    ended = true;
  }}
  document.getElementById("ended").style.display = ended ? "block" : "none";
}}
setInterval(refresh, {milliseconds});
</script></body></html>
"""


class Curves:
    """One run, from its files."""

    def __init__(self, folder, spec=None):
        self.folder, self.spec = folder, spec
        self.metrics = Metrics(folder / "metrics.jsonl")
        self.lines = {}
        self.kept = {}

    def update(self):
        """Reads what is new."""
        entries, anew = self.metrics.update()
        if anew:
            self.lines = {}
        for entry in entries:
            self.lines.setdefault(entry["kind"], {})[entry["step"]] = entry
        self.kept = self._json("run.json")
        self.checkpoint = self._json("checkpoint/trainer.json")
        self.evaluation = self._json("evaluation.json")
        if self.spec is None and "spec" in self.kept:
            try:
                self.spec = Spec.from_json(self.kept["spec"])
            except (KeyError, TypeError, ValueError):
                pass

    def _json(self, name):
        """The content of a file; {} if it is missing or cannot be read."""
        try:
            found = read_json(self.folder / name)
        except (ReproduceError, OSError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def label(self):
        return self.spec.label if self.spec else self.folder.resolve().name

    @property
    def options(self):
        """The run's options: the recipe of a job, or those in a trainer's checkpoint."""
        recipe, course = self.kept.get("recipe"), self.checkpoint.get("course")
        return recipe if isinstance(recipe, dict) else course if isinstance(course, dict) else {}

    @property
    def steps(self):
        return int(self.options.get("steps") or self.checkpoint.get("steps") or 0)

    def last(self, kind):
        of_step = self.lines.get(kind)
        return of_step[max(of_step)] if of_step else {}

    @property
    def done_steps(self):
        if self.evaluation and not self.diverged:
            return self.steps
        last = self.last("train")
        return last["step"] + 1 if last else 0

    @property
    def diverged(self):
        return bool(self.kept.get("diverged") or self.lines.get("diverged"))

    @property
    def state(self):
        if self.diverged:
            return "diverged"
        if self.evaluation:
            return "done"
        if not self.kept and not self.checkpoint and not self.lines:
            return "waiting"
        if self.steps and self.checkpoint.get("step") == self.steps:
            return "evaluating" if self.kept else "done"
        silent = self.silent_seconds
        if silent is None:
            return "starting"
        return "training" if silent < SILENT_SECONDS else f"nothing new for {duration(silent)}"

    @property
    def silent_seconds(self):
        try:
            return time.time() - self.metrics.path.stat().st_mtime if self.lines else None
        except OSError:
            return None

    @property
    def seconds_left(self):
        """None if that is not known, or nothing is left."""
        speed = self.last("train").get("tokens_per_second")
        try:
            tokens = tokens_of_step(self.options)
        except (KeyError, TypeError):
            return None
        if not speed or self.state != "training":
            return None
        return (self.steps - self.done_steps) * tokens / speed

    def points(self, kind, field):
        """[(step, number)] in order, without values that are not numbers."""
        of_step = self.lines.get(kind, {})
        found = [(step, of_step[step].get(field)) for step in sorted(of_step)]
        return [(step, float(x)) for step, x in found if isinstance(x, (int, float)) and math.isfinite(x)]

    def heads(self):
        """(steps, [entropies of all heads, layer by layer, at each of them], heads of a layer)."""
        of_step = self.lines.get("entropy", {})
        steps, columns, heads = [], [], 0
        for step in sorted(of_step):
            table = of_step[step].get("head_entropy")
            if isinstance(table, list) and table and all(isinstance(row, list) for row in table):
                columns.append([x for row in table for x in row])
                steps.append(step)
                heads = len(table[0])
        size = len(columns[-1]) if columns else 0
        same = [i for i, column in enumerate(columns) if len(column) == size > 0]
        same = same[:: max(1, -(-len(same) // COLUMNS))]
        return [steps[i] for i in same], [columns[i] for i in same], heads

    @property
    def largest_entropy(self):
        context = self.options.get("context") or 0
        largest = max((x for column in self.heads()[1] for x in column if x is not None), default=0)
        return max(largest, largest_possible_entropy(context) if context > 0 else 0) or 1.0


class Board:
    """The runs of a folder. `planned` are those of a job, {folder: Spec}, begun or not, of which `workers`
    are trained in parallel."""

    def __init__(self, root, planned=None, workers=1):
        self.root, self.workers = root, workers
        self.runs = {}
        self.fixed = planned is not None
        self.guard = threading.Lock()
        self.shown, self.due = "", 0.0
        self.add(planned or {})

    def add(self, planned):
        """Adds these runs, {folder: Spec}."""
        with self.guard:
            for folder, spec in planned.items():
                self.runs.setdefault(folder, Curves(folder, spec))

    @property
    def title(self):
        return f"{self.root.resolve().name}: training"

    def update(self):
        if not self.fixed:
            found = [self.root] if (self.root / "metrics.jsonl").exists() else []
            found += sorted(path for path in self.root.glob("runs/*") if path.is_dir())
            for folder in found:
                self.runs.setdefault(folder, Curves(folder))
        for run in self.runs.values():
            run.update()

    def html(self):
        """The present state; computed at most once a second, for all requests."""
        with self.guard:
            if time.monotonic() >= self.due:
                self.update()
                self.shown = self.render()
                self.due = time.monotonic() + 1
            return self.shown

    def render(self):
        runs = list(self.runs.values())
        if not runs:
            return "<p>No run has started yet.</p>"
        colors = {run.folder: COLORS[i % len(COLORS)] for i, run in enumerate(runs)}
        begun = [run for run in runs if run.lines]
        named = [(run, run.label, colors[run.folder]) for run in begun]
        loss = [(*name, run.points("train", "loss"), run.points("eval", "eval_loss")) for run, *name in named]
        speed = [(*name, run.points("train", "tokens_per_second"), []) for run, *name in named]
        parts = [f"<p>{escape(self.summary(runs))}</p>", self.table(runs, colors)]
        parts += ['<h2>Loss and throughput</h2><div class="charts">']
        parts += [chart("loss (nats) by step; dots: evaluation", loss)]
        parts += [chart("tokens per second by step", speed, from_zero=True), "</div>"]
        maps = "".join(heat_map(run) for run in begun if run.lines.get("entropy"))
        if maps:
            parts += [f"<h2>Entropy of the heads over the steps</h2>{LEGEND}", f'<div class="maps">{maps}</div>']
        return "\n".join(parts)

    def summary(self, runs):
        done = sum(run.state in ("done", "diverged") for run in runs)
        left = self.seconds_left(runs)
        text = f"{done} of {len(runs)} runs done" if len(runs) > 1 else f"{runs[0].state}"
        text += f", about {duration(left)} left in total" if left is not None and len(runs) > 1 else ""
        return f"{text}. As of {time.strftime('%H:%M:%S')}."

    def seconds_left(self, runs):
        """A run that has not begun is assumed to take as long as the running ones."""
        whole = [run.seconds_left * run.steps / max(1, run.steps - run.done_steps) for run in runs if run.seconds_left]
        if not whole:
            return None
        left = [run.seconds_left for run in runs if run.seconds_left]
        left += [sum(whole) / len(whole)] * sum(run.state in ("waiting", "starting") for run in runs)
        return max(sum(left) / self.workers, max(left))

    def table(self, runs, colors):
        rows = []
        for run in runs:
            last, evaluated = run.last("train"), run.evaluation or run.last("eval")
            share = run.done_steps / run.steps if run.steps else 0
            loss, perplexity, speed = last.get("loss"), evaluated.get("perplexity"), last.get("tokens_per_second")
            cells = [
                f'<span style="color:{colors[run.folder]}">&#9632;</span> {escape(run.label)}',
                escape(run.state),
                f'<span class="bar"><i style="width:{100 * min(1, share):.1f}%"></i></span> '
                f'{run.done_steps}/{run.steps or "?"}',
                "" if loss is None else f"{loss:.3f}",
                "" if perplexity is None else f"{perplexity:.2f}",
                "" if not speed else f"{speed:,.0f}",
                "" if run.seconds_left is None else duration(run.seconds_left),
            ]
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        names = ("run", "state", "step", "loss", "perplexity, evaluated", "tokens/s", "left")
        head = "".join(f"<th>{name}</th>" for name in names)
        return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def thinned(points):
    """At most POINTS of them, by averaging neighbors."""
    size = -(-len(points) // POINTS)
    if size <= 1:
        return points
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def ticks(low, high, count=5):
    """Round numbers between two numbers."""
    raw = (high - low) / count
    size = 10 ** math.floor(math.log10(raw))
    size = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    return [i * size for i in range(math.ceil(low / size), math.floor(high / size) + 1)]


def chart(title, runs, from_zero=False, width=560, height=280):
    """Curves over the steps as SVG: (label, color, points of a line, points of dots) for each."""
    runs = [(label, color, thinned(line), dots) for label, color, line, dots in runs]
    every = [point for _, _, line, dots in runs for point in (*line, *dots)]
    if not every:
        return ""
    left, top, right, bottom = 58, 26, 12, 30
    last = max(x for x, _ in every) or 1
    low, high = (0.0 if from_zero else min(y for _, y in every)), max(y for _, y in every)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    high += 0.04 * (high - low)

    def at(x, y):
        return (
            f"{left + (width - left - right) * x / last:.1f}",
            f"{height - bottom - (height - top - bottom) * (y - low) / (high - low):.1f}",
        )

    parts = [f'<text x="{left}" y="14" font-size="13">{escape(title)}</text>']
    for y in ticks(low, high):
        place = at(0, y)[1]
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{place}" y2="{place}" stroke="#e6e6e6"/>')
        parts.append(f'<text x="{left - 6}" y="{place}" dy="4" text-anchor="end">{y:,.10g}</text>')
    for x in ticks(0, last):
        parts.append(f'<text x="{at(x, low)[0]}" y="{height - 12}" text-anchor="middle">{x:,.10g}</text>')
    for label, color, line, dots in runs:
        path = " ".join(",".join(at(x, y)) for x, y in line)
        name = f"<title>{escape(label)}</title>"
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6">{name}</polyline>')
        for x, y in dots:
            cx, cy = at(x, y)
            name = f"<title>{escape(label)}, step {x}: {y:.3f}</title>"
            parts.append(f'<circle cx="{cx}" cy="{cy}" r="3.2" fill="{color}" stroke="#fff">{name}</circle>')
    return f'<svg viewBox="0 0 {width} {height}" font-size="11" fill="#333" role="img">{"".join(parts)}</svg>'


def color_of(value, largest):
    """A color of the heat map; gray for values that are not numbers."""
    if value is None or not math.isfinite(value):
        return NO_NUMBER
    place = min(max(value / largest, 0.0), 1.0) * (len(VIRIDIS) - 1)
    index = min(int(place), len(VIRIDIS) - 2)
    return tuple(round(a + (b - a) * (place - index)) for a, b in zip(VIRIDIS[index], VIRIDIS[index + 1]))


def png(rows):
    """Rows of (red, green, blue) as a PNG file."""

    def chunk(name, content):
        whole = name + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    pixels = b"".join(b"\0" + bytes(part for color in row for part in color) for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


LEGEND = (
    '<p>0 <span class="scale"></span> uniform attention. A row for each head, layer by layer from the top; '
    "a column for each observation.</p>"
)


def heat_map(run):
    """The entropies of a run's heads over its steps."""
    steps, columns, heads = run.heads()
    if not columns:
        return ""
    largest = run.largest_entropy
    rows = [[color_of(column[i], largest) for column in columns] for i in range(len(columns[0]))]
    image = base64.b64encode(png(rows)).decode()
    return (
        f"<figure><figcaption>{escape(run.label)}: {len(rows) // max(1, heads)} layers of {heads} heads</figcaption>"
        f'<img alt="entropies of {escape(run.label)}" src="data:image/png;base64,{image}">'
        f"<small><span>step {steps[0]}</span><span>step {steps[-1]}</span></small></figure>"
    )


class Handler(BaseHTTPRequestHandler):
    """Serves the page and its content, and nothing else."""

    def do_GET(self):
        names = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        if self.headers.get("Host") not in names:  # a foreign page whose name resolves to this address
            self.send_error(403)
        elif self.path == "/content":
            self.answer(self.server.board.html())
        elif self.path == "/":
            scale = ", ".join("#%02x%02x%02x" % color for color in VIRIDIS)
            board = self.server.board
            self.answer(
                PAGE.format(
                    title=escape(board.title),
                    style=STYLE,
                    scale=scale,
                    content=board.html(),
                    milliseconds=1000 * REFRESH_SECONDS,
                )
            )
        else:
            self.send_error(404)

    def answer(self, text):
        content = text.encode("utf-8", "backslashreplace")
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Logs nothing, since the terminal belongs to the job."""


class Server(ThreadingHTTPServer):
    """Serves a board from another thread until it is closed. Raises ReproduceError if the port is taken."""

    daemon_threads = True

    def __init__(self, board, port):
        try:
            super().__init__((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            raise ReproduceError(
                f"port {port} of {HOST} cannot be used ({error}); choose another one, or 0 for any."
            ) from error
        self.board = board
        self.url = f"http://{HOST}:{self.server_port}/"
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    def handle_error(self, request, client_address):
        """Ignores a closed browser or a file that vanished: the page will ask again."""

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


def main():
    parser = argparse.ArgumentParser(prog="live.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of one run, or of reproduce.sh (their --out)")
    parser.add_argument("--port", type=int, default=PORT, help=f"on {HOST}; 0: any that is free (default: {PORT})")
    arguments = parser.parse_args()
    try:
        if not arguments.folder.is_dir():
            raise ReproduceError(f"{arguments.folder} is not a folder; give that of a run, or of reproduce.sh.")
        with Server(Board(arguments.folder), arguments.port) as server:
            print(f"{server.url} until Ctrl-C", flush=True)
            threading.Event().wait()
    except ReproduceError as error:
        print(f"live.py: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
