"""Trains, evaluates and reports the paper's four configurations: the job behind reproduce.sh.

Runs as many single-threaded trainers side by side as there are cores. Everything it knows lies in the run
folder, so that the same command, interrupted at any point, goes on where it was:

    settings.json    what the run was started with; other settings are refused
    corpus.json      the corpus as prepared, with its sources
    CONFIG/          one trainer's folder: metrics.jsonl, checkpoint/, log.txt, run.json, evaluation.json
    results.json, report.md, figures/    written by report.py when every configuration is evaluated
"""

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import report

PROJECT = Path(__file__).resolve().parent.parent

# One recipe for all configurations, the paper's except for size, batch, steps, learning rate and warm-up. The
# initial standard deviation is 0.02 * sqrt(768 / width): it gives every matrix the gain it has in the paper's
# model.
# fmt: off
MODEL = {"layers": 8, "heads": 4, "width": 64, "context": 128}
OPTIMIZATION = {
    "batch_size": 16, "learning_rate": 2e-3, "warmup_ratio": 0.1, "weight_decay": 0.1, "dropout": 0.1,
    "init_std": 0.0693,
}
# What differs between the scales: optimizer steps, and after how many of them the trainer does what.
TRAINING = {
    "smoke": {"steps": 48, "eval_every": 12, "observe_every": 4, "log_every": 2, "checkpoint_every": 12},
    "demo": {"steps": 3906, "eval_every": 488, "observe_every": 61, "log_every": 10, "checkpoint_every": 250},
}
# Corpus: arguments of prepare_corpus, the same for every seed.
CORPUS = {
    "smoke": {"vocab_size": 4096, "held_out": 0.01, "tokenizer_sample_bytes": 2_000_000,
              "max_train_tokens": 250_000},
    "demo": {"vocab_size": 4096, "held_out": 0.03},
}
# fmt: on
CORPUS_SEED = 0

# One single-threaded trainer per core is faster than one trainer on all cores.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# Exit status of a trainer whose loss stopped being a number.
DIVERGED_STATUS = 3

POLL_SECONDS = 0.2
LINE_SECONDS = 20.0
STOP_SECONDS = 60.0


class JobError(Exception):
    """One clear sentence for the person who started the job."""


class Interrupted(Exception):
    """A signal asked the job to stop; args[0] is its number."""


def options_of(values):
    """{"batch_size": 16} as ["--batch-size", "16"]."""
    return [word for name, value in values.items() for word in ("--" + name.replace("_", "-"), str(value))]


def write_json(path, value):
    """Writes under a temporary name and renames, so that the file is never half there."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_json(path):
    """The file's JSON, or None when there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise JobError(f"{path} is not valid JSON ({error}); remove it to have it made again.") from error


def lock(path):
    """Holds `path` locked until this process and every program it started have ended; None when others hold
    it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    os.set_inheritable(file.fileno(), True)
    return file


def on_terminal():
    """Whether lines may be redrawn in place."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Stop:
    """Remembers the first signal that asks to stop. Programs run in sessions of their own and hear only from
    us."""

    def __init__(self):
        self.signal = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number, _frame):
        self.signal = self.signal or number

    def check(self):
        if self.signal:
            raise Interrupted(self.signal)


class Program:
    """A program in a session of its own, writing to a log file; asked to stop should this process die."""

    def __init__(self, command, log, environment=None):
        self.command, self.log = [str(word) for word in command], log
        with open(log, "ab") as output:
            output.write(f"$ {' '.join(self.command)}\n".encode())
            output.flush()
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | (environment or {}),
                start_new_session=True,
                close_fds=False,
            )

    def poll(self):
        return self.process.poll()

    def ask_to_stop(self):
        self._signal(signal.SIGTERM)

    def kill(self):
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def last_lines(self, count=12):
        lines = self.log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
        return "\n".join("  | " + line for line in lines[-count:])


def run_to_end(command, log, stop, what):
    """Runs one program and waits for it, its last line shown on a terminal; raises JobError when it fails."""
    program = Program(command, log)
    while program.poll() is None:
        if on_terminal():
            print(
                f"\r\x1b[K{program.last_lines(1)[:shutil.get_terminal_size().columns - 1]}\r",
                end="",
                flush=True,
            )
        if stop.signal:
            program.ask_to_stop()
            try:
                program.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                program.kill()
            stop.check()
        time.sleep(POLL_SECONDS)
    if on_terminal():
        print("\x1b[K", end="")
    if program.poll() != 0:
        raise JobError(
            f"{what} failed (exit status {program.poll()}); the end of {log}:\n{program.last_lines()}"
        )


class MetricsTail:
    """Follows a metrics.jsonl that is being written: `train` is the newest complete training line, if any."""

    def __init__(self, path):
        self.path, self.position, self.train = path, 0, None

    def update(self):
        try:
            with open(self.path, "rb") as file:
                # A resumed trainer may have cut the file back to its checkpoint.
                if os.fstat(file.fileno()).st_size < self.position:
                    self.position = 0
                file.seek(self.position)
                new = file.read()
        except FileNotFoundError:
            return
        complete = new[: new.rfind(b"\n") + 1]
        self.position += len(complete)
        for line in complete.splitlines():
            if b'"train"' in line:
                try:
                    self.train = json.loads(line)
                except ValueError:
                    continue


class Run:
    """One configuration on its way: training, evaluation, done. Its state is read from its folder, never
    remembered."""

    def __init__(self, config, arguments):
        self.config, self.label = config, report.CONFIGURATIONS[config].label
        self.folder = arguments.out / config
        self.program = self.stage = None
        self.steps = TRAINING[arguments.scale]["steps"]
        self.trainer = arguments.programs / f"train_demo_{config}"
        self.shards = arguments.shards
        self.seed, self.scale = arguments.seed, arguments.scale
        self.metrics = MetricsTail(self.folder / "metrics.jsonl")
        kept = read_json(self.folder / "run.json") or {}
        self.seconds, self.diverged = kept.get("seconds", 0.0), kept.get("diverged", False)
        self.started = self.first_seen = None

    @property
    def checkpoint_step(self):
        """Step of the checkpoint on disk, None without one."""
        trainer = read_json(self.folder / "checkpoint" / "trainer.json")
        return None if trainer is None else trainer["step"]

    @property
    def done(self):
        return (self.folder / "evaluation.json").exists()

    def start(self):
        """Starts what comes next: training, from the checkpoint where there is one, or evaluation."""
        self.folder.mkdir(parents=True, exist_ok=True)
        step = self.checkpoint_step
        command = [self.trainer, "--val", self.shards / "val.bin", "--threads", 1]
        if step == self.steps or self.diverged:
            self.stage = "evaluating"
            command += [
                "--init-from",
                self.folder / "checkpoint" / "model.safetensors",
                "--evaluate-only",
                "--batch-size",
                OPTIMIZATION["batch_size"],
                "--json",
                self.folder / "evaluation.json.part",
            ]
        else:
            self.stage = "training"
            command += [
                "--train",
                self.shards / "train.bin",
                "--out",
                self.folder,
                "--seed",
                self.seed,
                "--shuffle",
                *options_of(OPTIMIZATION | TRAINING[self.scale]),
            ]
            command += ["--resume"] if step is not None else []
        self.started, self.first_seen = time.monotonic(), None
        self.program = Program(command, self.folder / "log.txt", ONE_THREAD)

    def finish_stage(self):
        """Takes the ended program's work in; raises JobError when it failed."""
        status, stage = self.program.poll(), self.stage
        self.diverged |= stage == "training" and status == DIVERGED_STATUS
        self.save_seconds()
        program, self.program, self.stage = self.program, None, None
        if stage == "training" and self.diverged:
            return
        if status != 0:
            raise JobError(
                f"{stage} {self.label} failed (exit status {status}); the end of {program.log}:\n"
                f"{program.last_lines()}"
            )
        if stage == "training" and self.checkpoint_step != self.steps:
            raise JobError(
                f"{self.trainer} ended without a checkpoint of step {self.steps} in {self.folder}; "
                f"see {program.log}."
            )
        if stage == "evaluating":
            result = self.folder / "evaluation.json.part"
            if not result.exists():
                raise JobError(f"the evaluation of {self.label} wrote no result; see {program.log}.")
            if self.diverged:
                # Its heads are those of the last sound checkpoint; that one's loss is not the run's.
                write_json(result, read_json(result) | {"eval_loss": None, "perplexity": None})
            result.replace(self.folder / "evaluation.json")

    def save_seconds(self):
        """Adds the time trained since the last call to run.json."""
        if self.stage == "training":
            now = time.monotonic()
            self.seconds += now - self.started
            self.started = now
            kept = {"config": self.config, "seconds": round(self.seconds, 1), "diverged": self.diverged}
            write_json(self.folder / "run.json", kept)

    def progress(self):
        """(step, seconds per step or None), the latter as seen by the clock, evaluations included."""
        if self.done or self.stage == "evaluating":
            return self.steps, None
        self.metrics.update()
        step = self.metrics.train["step"] if self.metrics.train else 0
        if self.stage != "training":
            return step, None
        now = time.monotonic()
        if self.metrics.train and (self.first_seen is None or step < self.first_seen[1]):
            self.first_seen = (now, step)
        if self.first_seen and step > self.first_seen[1]:
            return step, (now - self.first_seen[0]) / (step - self.first_seen[1])
        speed = (self.metrics.train or {}).get("tokens_per_second")
        return step, OPTIMIZATION["batch_size"] * MODEL["context"] / speed if speed else None


def duration(seconds):
    """75 as "1:15"; 3675 as "1:01:15"."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """One line per run, redrawn in place on a terminal; elsewhere lines of the running ones every
    LINE_SECONDS."""

    def __init__(self, runs, workers):
        self.runs, self.workers, self.lines = runs, workers, 0
        self.terminal = on_terminal()
        self.due = 0.0

    def line(self, run, width):
        step, per_step = run.progress()
        head = f"{run.label:<{max(len(r.label) for r in self.runs)}}"
        if run.done:
            evaluation = read_json(run.folder / "evaluation.json")
            perplexity = evaluation.get("perplexity")
            return (
                f"{head}  done: perplexity {perplexity:.2f}"
                if perplexity is not None
                else f"{head}  done: diverged"
            )
        if run.stage is None:
            return f"{head}  waiting" + (f" at step {step}" if step else "")
        text = f"{step:>{len(str(run.steps))}}/{run.steps}"
        if run.stage == "evaluating":
            text += "  evaluating on the held-out files"
        elif run.metrics.train is None:
            text += "  starting"
        else:
            loss, speed = run.metrics.train.get("loss"), run.metrics.train.get("tokens_per_second")
            text += f"  loss {loss:.3f}" if loss is not None else "  loss not finite"
            text += f"  {speed / 1000:.1f}k tokens/s" if speed else ""
            text += f"  {duration((run.steps - step) * per_step)} left" if per_step else ""
        cells = min(24, width - len(head) - len(text) - 6)
        if cells < 8:
            return f"{head}  {text}"
        filled = cells * step // run.steps
        return f"{head}  [{'#' * filled}{'.' * (cells - filled)}] {text}"

    def total(self):
        """How long all runs together may still take, or None before the first speed is known."""
        states = [(run, *run.progress()) for run in self.runs if not run.done and run.stage != "evaluating"]
        speeds = [per_step for _, _, per_step in states if per_step]
        if not speeds:
            return None
        typical = sum(speeds) / len(speeds)
        left = [(run.steps - step) * (per_step or typical) for run, step, per_step in states]
        return max(sum(left) / self.workers, max(left))

    def show(self):
        """Draws when it is due."""
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + (1.0 if self.terminal else LINE_SECONDS)
        if not self.terminal:
            for run in self.runs:
                if run.stage:
                    print(self.line(run, 0), flush=True)
            return
        width = shutil.get_terminal_size().columns
        left = self.total()
        lines = [self.line(run, width) for run in self.runs] + [
            f"about {duration(left)} left in all" if left else ""
        ]
        back = f"\x1b[{self.lines}F" if self.lines else ""
        print(back + "".join(f"\x1b[K{line[:width - 1]}\n" for line in lines), end="", flush=True)
        self.lines = len(lines)

    def event(self, text):
        """A line that stays (plain output only: the terminal's own lines say it already)."""
        if not self.terminal:
            print(text, flush=True)

    def finish(self):
        self.due = 0.0
        if self.terminal:
            self.show()


def train_all(runs, stop):
    """Brings every run to its evaluation, as many side by side as there are cores."""
    workers = min(len(os.sched_getaffinity(0)), len(runs))
    progress = Progress(runs, workers)
    waiting, active = [run for run in runs if not run.done], []
    saved = time.monotonic()
    try:
        while waiting or active:
            while waiting and len(active) < workers:
                run = waiting.pop(0)
                run.start()
                active.append(run)
                progress.event(f"{run.label}: {run.stage}")
            for run in list(active):
                if run.program.poll() is None:
                    continue
                active.remove(run)
                run.finish_stage()
                if run.done:
                    progress.event(progress.line(run, 0))
                else:
                    waiting.insert(0, run)
            if time.monotonic() - saved > 5:
                saved = time.monotonic()
                for run in active:
                    run.save_seconds()
            stop.check()
            progress.show()
            time.sleep(POLL_SECONDS)
    except BaseException:
        stop_all(active)
        raise
    progress.finish()


def stop_all(active):
    """Asks the trainers to save and end; kills what has not ended after STOP_SECONDS."""
    for run in active:
        run.program.ask_to_stop()
    deadline = time.monotonic() + STOP_SECONDS
    for run in active:
        try:
            run.program.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            run.program.kill()
            print(
                f"reproduce: {run.label} did not stop in {STOP_SECONDS:.0f} s and was ended; "
                "it goes on from its last checkpoint.",
                file=sys.stderr,
            )
        run.save_seconds()


def settings_of(arguments):
    """What a run folder is bound to."""
    return {
        "scale": arguments.scale,
        "seed": arguments.seed,
        "corpus": str(arguments.corpus) if arguments.corpus else "debian",
        "recipe": MODEL | OPTIMIZATION | TRAINING[arguments.scale],
        "preparation": CORPUS[arguments.scale],
    }


def check_settings(arguments):
    """Refuses a folder started with other settings, or one that is not ours."""
    wanted, found = settings_of(arguments), read_json(arguments.out / "settings.json")
    if found is None:
        if arguments.out.exists() and any(entry.name != ".lock" for entry in arguments.out.iterdir()):
            raise JobError(
                f"{arguments.out} is not empty and holds no run of this program; give another --out."
            )
        return
    for name, value in wanted.items():
        if found.get(name) != value:
            change = (
                f"another {name}" if isinstance(value, dict) else f"{name} {found.get(name)}, not {value}"
            )
            raise JobError(
                f"{arguments.out} was started with {change}; "
                "give the same settings to go on, or another --out."
            )


def prepare_corpus(arguments, stop):
    """Brings the shards about (train.bin, val.bin) and binds the run folder to them; returns their folder."""
    own = arguments.corpus is not None
    root = arguments.out / "corpus" if own else PROJECT / "out" / "corpus"
    shards = root if own else root / arguments.scale
    waited = False
    while (held := lock(root / ".lock")) is None:
        if not waited:
            print("waiting: another run is preparing the corpus", flush=True)
        waited = True
        stop.check()
        time.sleep(1)
    with held:
        if not own:
            print("corpus: Python sources of Debian packages", flush=True)
            run_to_end(
                [PROJECT / "examples" / "fetch_corpus.sh", "--out", root / "sources"],
                root / "log.txt",
                stop,
                "fetching the corpus",
            )
        print("corpus: de-duplicating, training the tokenizer, writing shards", flush=True)
        command = [
            arguments.programs / "prepare_corpus",
            "--input",
            arguments.corpus if own else root / "sources",
            "--out",
            shards,
            "--context",
            MODEL["context"],
            "--seed",
            CORPUS_SEED,
            *options_of(CORPUS[arguments.scale]),
        ]
        # Without corpus.json, what is there was left by an interrupted preparation.
        command += [] if (shards / "corpus.json").exists() else ["--overwrite"]
        run_to_end(command, root / "log.txt", stop, "preparing the corpus")
    corpus = {"input": str(arguments.corpus) if own else "Python sources of Debian packages"}
    corpus |= {"prepared": read_json(shards / "corpus.json")}
    if not own:
        corpus |= {"sources": read_json(root / "sources" / "sources.json")}
    bound = read_json(arguments.out / "corpus.json")
    if bound is None:
        write_json(arguments.out / "corpus.json", corpus)
    elif bound != corpus:
        raise JobError(
            f"the corpus in {shards} is no longer the one that {arguments.out} was started with; give "
            "another --out."
        )
    return shards


def reproduce(arguments, stop):
    """The whole job, from the corpus to the report."""
    check_settings(arguments)
    if arguments.check:
        return
    held = lock(arguments.out / ".lock")
    if held is None:
        raise JobError(f"another run is at work in {arguments.out}.")
    with held:
        if not (arguments.out / "settings.json").exists():
            write_json(arguments.out / "settings.json", settings_of(arguments))
        arguments.shards = prepare_corpus(arguments, stop)
        runs = [Run(config, arguments) for config in report.CONFIGURATIONS if config in arguments.configs]
        train_all(runs, stop)
        print("report: tables and figures", flush=True)
        report.write_report(arguments.out)
    print(f"\nThe report is {arguments.out / 'report.md'}")


def main():
    parser = argparse.ArgumentParser(prog="reproduce.py", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--scale", choices=list(TRAINING), default="demo", help="how much to train (default: demo)"
    )
    parser.add_argument(
        "--corpus", type=Path, help="folder of Python files or .jsonl file (default: Debian packages)"
    )
    parser.add_argument(
        "--configs",
        nargs="+",
        choices=list(report.CONFIGURATIONS),
        default=list(report.CONFIGURATIONS),
        help="which configurations (default: all)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and dropout (default: 0)")
    parser.add_argument("--out", type=Path, required=True, help="the run folder")
    parser.add_argument(
        "--programs",
        type=Path,
        default=PROJECT / "build" / "release" / "bin",
        help="where prepare_corpus and the trainers are (default: build/release/bin)",
    )
    parser.add_argument("--check", action="store_true", help="only check that --out fits the other options")
    arguments = parser.parse_args()
    stop = Stop()
    try:
        reproduce(arguments, stop)
    except Interrupted as interrupted:
        print("\nStopped; everything is saved. The same command goes on where it was.", flush=True)
        sys.exit(128 + interrupted.args[0])
    except (JobError, report.ReportError, OSError) as error:
        print(f"reproduce: {error}", file=sys.stderr)
        if (arguments.out / "settings.json").exists() and not arguments.check:
            print("reproduce: when that is mended, the same command goes on where it was.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
