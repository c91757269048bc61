"""The console output while runs are trained."""

import shutil
import time

from files import read_json
from programs import on_terminal
from runs import tokens_of_step

LINE_SECONDS = 20.0


def duration(seconds):
    """75 as "1:15"; 3675 as "1:01:15"; from two days on in days."""
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:,.0f} days"
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """One line per running job and one for all, redrawn in place on a terminal; elsewhere a line for each
    running job every LINE_SECONDS."""

    def __init__(self, jobs, workers):
        self.jobs, self.workers, self.lines = jobs, workers, 0
        self.terminal = on_terminal()
        self.due = 0.0

    def line(self, job, width):
        step, per_step = job.progress()
        head = f"{job.label:<{max(len(other.label) for other in self.jobs)}}"
        if job.done:
            perplexity = read_json(job.folder / "evaluation.json").get("perplexity")
            what = f"perplexity {perplexity:.2f}" if perplexity is not None else "diverged"
            return f"{head}  done: {what}"
        text = f"{step:>{len(str(job.steps))}}/{job.steps}"
        if job.stage == "evaluating":
            text += "  evaluating on the held-out files"
        elif job.metrics.train is None:
            text += "  starting"
        else:
            loss, speed = job.metrics.train.get("loss"), job.metrics.train.get("tokens_per_second")
            text += f"  loss {loss:.3f}" if loss is not None else "  loss not finite"
            text += f"  {speed / 1000:.1f}k tokens/s" if speed else ""
            text += f"  {duration((job.steps - step) * per_step)} left" if per_step else ""
        cells = min(24, width - len(head) - len(text) - 6)
        if cells < 8:
            return f"{head}  {text}"
        filled = cells * step // job.steps
        return f"{head}  [{'#' * filled}{'.' * (cells - filled)}] {text}"

    def total(self):
        """How long all runs together may still take, or None before the first speed is known. A run that has
        not begun is assumed to be as fast per token as the running ones."""
        states = [(job, *job.progress()) for job in self.jobs if not job.done and job.stage != "evaluating"]
        speeds = [per_step / tokens_of_step(job.recipe) for job, _, per_step in states if per_step]
        if not speeds:
            return None
        typical = sum(speeds) / len(speeds)
        left = {
            job: (job.steps - step) * (per_step or typical * tokens_of_step(job.recipe))
            for job, step, per_step in states
        }

        def chain(job):
            """The time of a run and of the longest of those that it waits for."""
            return left.get(job, 0.0) + max(map(chain, job.prerequisites.values()), default=0.0)

        return max(sum(left.values()) / self.workers, *map(chain, left))

    def show(self):
        """Draws when it is due."""
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + (1.0 if self.terminal else LINE_SECONDS)
        width = shutil.get_terminal_size().columns if self.terminal else 0
        lines = [self.line(job, width) for job in self.jobs if job.stage]
        left, done = self.total(), sum(job.done for job in self.jobs)
        lines.append(
            f"{done} of {len(self.jobs)} runs done"
            + (f", about {duration(left)} left in total" if left is not None else "")
        )
        if not self.terminal:
            print("\n".join(lines), flush=True)
            return
        back = f"\x1b[{self.lines}A" if self.lines else ""
        body = "".join(f"\r\x1b[K{line[:width - 1]}\n" for line in lines)
        print(back + "\x1b[J" + body, end="", flush=True)
        self.lines = len(lines)

    def event(self, text, lasting=False):
        """Prints an event; on a terminal above the redrawn lines, and only if it is `lasting`."""
        if not self.terminal:
            print(text, flush=True)
        elif lasting:
            back = f"\x1b[{self.lines}A\x1b[J" if self.lines else ""
            print(back + text, flush=True)
            self.lines, self.due = 0, 0.0

    def finish(self):
        self.due = 0.0
        if self.terminal:
            self.show()
