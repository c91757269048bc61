"""Trains and evaluates runs, as many in parallel as the scale allows."""

import os
import subprocess
import sys
import time

from files import ReproduceError, read_json, write_json
from metrics import Metrics
from programs import POLL_SECONDS, STOP_SECONDS, Program
from progress import Progress
from runs import options_of, recipe_of, tokens_of, tokens_of_step
from scales import SCALES

# Exit status of a trainer whose run diverged.
DIVERGED_STATUS = 3

# For small models, one single-threaded trainer per core is faster than one trainer on all cores.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


# There may be more ranks than cores, several runs share the cores, and a container's user is root.
OPEN_MPI = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


def environment_of(threads):
    """Additions to the environment of a trainer with this many threads."""
    return OPEN_MPI | (ONE_THREAD if threads == 1 else {})


def launched(trainer, ranks):
    """The beginning of a command that starts a trainer as this many processes."""
    return [trainer] if ranks == 1 else ["mpirun", "-n", ranks, trainer]


class MetricsTail(Metrics):
    """Keeps the newest training line of a metrics.jsonl as `train`, None before there is one."""

    train = None

    def update(self):
        entries, _ = super().update()
        self.train = next((entry for entry in reversed(entries) if entry["kind"] == "train"), self.train)


class Job:
    """One run with its stages: training, evaluation, done. Its state is always read from its folder: run.json
    (what the run is, its recipe, the device it was last trained on, seconds trained, whether it diverged),
    metrics.jsonl, checkpoint/, log.txt and, when it is done, evaluation.json and, if evaluated in halves,
    selection.json, the evaluation of the first half."""

    def __init__(self, spec, arguments, shards, windows, jobs=None):
        """`jobs` are the possible prerequisites by Spec."""
        self.spec, self.label, self.in_halves = spec, spec.label, False
        self.prerequisites = {link: jobs[other] for link, other in spec.prerequisites.items()}
        self.recipe = recipe_of(spec, arguments.scale, windows, arguments.device, arguments.ranks)
        self.steps = self.recipe["steps"]
        self.folder = arguments.out / "runs" / spec.name
        self.ranks = arguments.ranks
        self.trainer = arguments.programs / spec.trainer(arguments.device, self.ranks)
        self.threads = SCALES[arguments.scale].threads
        # More than a trainer observes by default. It changes no result, so it is not part of the recipe.
        self.observes = ["--observe-signal"] if arguments.device == "cpu" else []
        self.shards = shards
        self.program = self.stage = None
        self.metrics = MetricsTail(self.folder / "metrics.jsonl")
        kept = read_json(self.folder / "run.json") or {}
        for name, value in self.recipe.items():
            if kept and kept.get("recipe", {}).get(name) != value:
                raise ReproduceError(
                    f"{self.folder} was started with {name} {kept.get('recipe', {}).get(name)}, not "
                    f"{value}; remove it or give another --out."
                )
        self.seconds, self.diverged = kept.get("seconds", 0.0), kept.get("diverged", False)
        self.device = kept.get("device")
        self.started = self.first_seen = None

    def check_checkpoints(self):
        """Raises ReproduceError if the checkpoint of a finished run is needed but missing."""
        if self.done:
            return
        is_evaluated = (self.folder / "evaluation.json").exists()
        for job in [self] if is_evaluated else self.prerequisites.values():
            if (job.folder / "evaluation.json").exists() and job.checkpoint_step is None:
                raise ReproduceError(
                    f"{job.folder} no longer has its checkpoint, which is needed for {self.label}; "
                    "remove that folder to train it again."
                )

    @property
    def checkpoint_step(self):
        """Step of the checkpoint on disk, None without one."""
        trainer = read_json(self.folder / "checkpoint" / "trainer.json")
        return None if trainer is None else trainer["step"]

    @property
    def batch_size(self):
        """Windows in one pass: from the recipe, or chosen by the trainer to fit the device's memory."""
        trainer = read_json(self.folder / "checkpoint" / "trainer.json")
        return self.recipe.get("batch_size") or trainer["course"]["batch_size"]

    @property
    def evaluations_left(self):
        """The missing evaluations: (file of the result, shard)."""
        wanted = [("evaluation.json", "val.bin")] + [("selection.json", "selection.bin")] * self.in_halves
        return [(result, shard) for result, shard in wanted if not (self.folder / result).exists()]

    @property
    def done(self):
        return not self.evaluations_left

    @property
    def is_ready(self):
        """Whether all runs that it needs are done."""
        return all(other.done for other in self.prerequisites.values())

    @property
    def hindrance(self):
        """A diverged run without which this one cannot begin, or None."""
        for other in self.prerequisites.values():
            if other.diverged or other.hindrance:
                return other.hindrance or other
        return None

    def checkpoints_needed(self, *links):
        """The trainer's options for the checkpoints of its prerequisites."""
        named = {link: self.prerequisites[link].folder / "checkpoint" for link in links if link in self.prerequisites}
        return options_of(named)

    def start(self):
        """Starts the next stage: training, from the checkpoint if there is one, or evaluation."""
        self.folder.mkdir(parents=True, exist_ok=True)
        step = self.checkpoint_step
        command = [*launched(self.trainer, self.ranks), "--threads", self.threads]
        if step == self.steps or self.diverged:
            self.stage = "evaluating"
            result, shard = self.evaluations_left[0]
            command += ["--val", self.shards / shard, "--init-from", self.folder / "checkpoint" / "model.safetensors"]
            command += options_of({"batch_size": self.batch_size, "context": self.recipe["context"]})
            command += ["--evaluate-only", "--json", self.folder / f"{result}.part", *self.observes]
        else:
            self.stage = "training"
            command += ["--val", self.shards / "val.bin", "--train", self.shards / "train.bin", "--out", self.folder, "--shuffle"]
            command += options_of(self.recipe) + self.observes + self.checkpoints_needed("teacher")
            command += ["--resume"] if step is not None else self.checkpoints_needed("init_from")
        self.started, self.first_seen = time.monotonic(), None
        self.save()
        self.program = Program(command, self.folder / "log.txt", environment_of(self.threads), self.ranks > 1)

    def finish_stage(self):
        """Handles the end of a program; raises ReproduceError if it failed."""
        status, stage = self.program.poll(), self.stage
        self.diverged |= stage == "training" and status == DIVERGED_STATUS
        self.save()
        program, self.program, self.stage = self.program, None, None
        if stage == "training" and self.diverged:
            return
        if status != 0:
            raise ReproduceError(
                f"{stage} {self.label} failed (exit status {status}); the end of {program.log}:\n"
                f"{program.last_lines()}"
            )
        if stage == "training" and self.checkpoint_step != self.steps:
            raise ReproduceError(
                f"{self.trainer} ended without a checkpoint of step {self.steps} in {self.folder}; "
                f"see {program.log}."
            )
        if stage == "evaluating":
            name, _ = self.evaluations_left[0]
            result = self.folder / f"{name}.part"
            if not result.exists():
                raise ReproduceError(f"the evaluation of {self.label} wrote no result; see {program.log}.")
            if self.diverged:
                # Its heads are those of the last good checkpoint, but that checkpoint's loss is not the
                # run's.
                write_json(result, read_json(result) | {"eval_loss": None, "perplexity": None})
            result.replace(self.folder / name)

    def save(self):
        """Writes run.json, adding the time trained since the last call."""
        if self.stage == "training":
            now = time.monotonic()
            self.seconds += now - self.started
            self.started = now
        kept = {"spec": self.spec.as_json(), "recipe": self.recipe}
        kept |= {"device": self.device, "seconds": round(self.seconds, 1), "diverged": self.diverged}
        write_json(self.folder / "run.json", kept)

    def progress(self):
        """(step, seconds per step or None), the latter in wall-clock time, evaluations included."""
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
        return step, tokens_of_step(self.recipe) / speed if speed else None


def workers_of(scale, device, ranks=1):
    """How many trainers run in parallel: a core for each rank if models are small, one trainer on GPUs."""
    return max(1, len(os.sched_getaffinity(0)) // ranks) if device == "cpu" and SCALES[scale].threads == 1 else 1


def longest_first(jobs):
    """The runs seed by seed, and those of a seed by length, so that the last worker does not end long after the
    others."""
    return sorted(jobs, key=lambda job: (job.spec.seed, -tokens_of(job.recipe)))


def train_all(jobs, workers, stop, more=list):
    """Trains and evaluates every run, seed by seed, and of a seed first the longest runs whose prerequisites
    are done. A run that needs a diverged one is left out. Whenever a run has ended, `more()` returns further
    runs."""
    progress = Progress(list(jobs), workers)
    waiting, active = longest_first(job for job in progress.jobs if not job.done), []
    saved = time.monotonic()
    try:
        while waiting or active:
            for job in [job for job in waiting if job.hindrance]:
                waiting.remove(job)
                progress.event(f"{job.label}: left out, since {job.hindrance.label} diverged", lasting=True)
            while len(active) < workers and (job := next((job for job in waiting if job.is_ready), None)):
                waiting.remove(job)
                job.start()
                active.append(job)
                progress.event(f"{job.label}: {job.stage}")
            for job in list(active):
                if job.program.poll() is None:
                    continue
                active.remove(job)
                job.finish_stage()
                if job.done:
                    progress.event(progress.line(job, 0), lasting=True)
                    new = [job for job in more() if not job.hindrance]
                    progress.jobs += [job for job in new if job not in progress.jobs]
                    waiting += longest_first(job for job in new if job not in waiting and job not in active)
                else:
                    waiting.insert(0, job)
            if time.monotonic() - saved > 5:
                saved = time.monotonic()
                for job in active:
                    job.save()
            stop.check()
            progress.show()
            time.sleep(POLL_SECONDS)
    except BaseException:
        stop_all(active)
        raise
    progress.finish()


def stop_all(active):
    """Asks the trainers to save and end; kills those that have not ended after STOP_SECONDS."""
    for job in active:
        job.program.ask_to_stop()
    deadline = time.monotonic() + STOP_SECONDS
    for job in active:
        try:
            job.program.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            job.program.kill()
            print(
                f"reproduce: {job.label} did not stop in {STOP_SECONDS:.0f} s and was ended; it will resume "
                "from its last checkpoint.",
                file=sys.stderr,
            )
        job.save()
