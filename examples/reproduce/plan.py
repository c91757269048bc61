"""The plan of a job: on which device, in how much of its memory, and for how long."""

import os
import subprocess
import tempfile
from pathlib import Path

from files import ReproduceError, read_json
from jobs import environment_of, launched
from programs import run_to_end
from progress import duration
from runs import options_of, recipe_of, tokens_of, tokens_of_step
from scales import SCALES
from text import names

BATCH_OPTIONS = ("step_windows", "batch_size", "accumulate")


def trainer_plan(trainer, ranks, recipe, threads, stop, resumed=None):
    """A trainer's plan for its device (its --plan-only --json), with the batch of the run in the folder
    `resumed` if that continues; raises ReproduceError with the trainer's message if the device is missing or
    has too little memory."""
    with tempfile.TemporaryDirectory() as place:
        result = Path(place) / "plan.json"
        batch = {name: recipe[name] for name in BATCH_OPTIONS if name in recipe}
        command = [*launched(trainer, ranks), "--plan-only", "--json", result, "--threads", threads, *options_of(batch)]
        command += [] if resumed is None else ["--resume", "--out", resumed]
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=os.environ | environment_of(threads),
        )
        stop.check()
        if done.returncode != 0:
            raise ReproduceError(done.stderr.strip() or f"{trainer} failed (exit status {done.returncode}).")
        return read_json(result)


def check_device(specs, arguments, stop):
    """Raises ReproduceError if there is something to train but no device, before a corpus is prepared."""
    for spec in specs:
        if not (arguments.out / "runs" / spec.name / "evaluation.json").exists():
            recipe = recipe_of(spec, arguments.scale, 0, arguments.device, arguments.ranks)
            trainer = arguments.programs / spec.trainer(arguments.device, arguments.ranks)
            trainer_plan(trainer, arguments.ranks, recipe, SCALES[arguments.scale].threads, stop)
            return


def print_plan(jobs, workers, scale, stop):
    """Prints one line for each shape and context; for long runs with the expected time, from a speed that is
    first measured on one of them."""
    todo = [job for job in jobs if not job.done]
    print(f"plan: {len(jobs)} runs, {len(jobs) - len(todo)} of them done, {workers} at a time", flush=True)
    for job in todo:
        first = [other.label for other in job.prerequisites.values() if not other.done]
        if first:
            print(f"plan: {job.label}: after {names(first)}", flush=True)
    seconds = 0.0
    for shape, context in dict.fromkeys((job.spec.shape, job.spec.context) for job in todo):
        same = [job for job in todo if (job.spec.shape, job.spec.context) == (shape, context)]
        tokens = sum(tokens_of(job.recipe) for job in same)
        text = f"plan: {shape}, windows of {context}: {len(same)} runs, {tokens / 1e6:,.1f} M tokens, "
        text += memory_text(plans_of(same, stop))
        ready = next((job for job in same if job.is_ready), None)
        if SCALES[scale].steps is None and ready:
            speed = measured_speed(ready, stop)
            seconds += tokens / speed
            text += f"; {speed:,.0f} tokens/s, about {duration(tokens / speed)}"
        print(text, flush=True)
    if seconds:
        print(f"plan: about {duration(seconds)} in total on this machine", flush=True)


def plans_of(jobs, stop):
    """The plan of each of these runs; records its device in each. Runs of the same program that start from
    the beginning have the same plan."""
    known = {}
    for job in jobs:
        resumed = job.folder if job.checkpoint_step is not None else None
        key = (job.trainer, resumed)
        if key not in known:
            known[key] = trainer_plan(job.trainer, job.ranks, job.recipe, job.threads, stop, resumed)
        job.device = known[key]["device"]
    return list(known.values())


def memory_text(plans):
    """The batches and the largest memory of some plans, in words."""
    batches = sorted({plan["batch_size"] for plan in plans})
    largest = max(plans, key=lambda plan: plan["bytes"]["total"])
    return (
        f"{batches[0]}{f' to {batches[-1]}' if len(batches) > 1 else ''} windows in a pass, "
        f"{largest['bytes']['total'] / 1e9:.2f} of {largest['free_bytes'] / 1e9:.2f} GB free on "
        f"{largest['device']}"
    )


def measured_speed(job, stop):
    """Tokens per second, from two steps of the run's own trainer; with one pass each if the recipe gives the
    number of passes in a step."""
    job.folder.mkdir(parents=True, exist_ok=True)
    result = job.folder / "speed.json"
    options = {name: job.recipe[name] for name in (*BATCH_OPTIONS, "context") if name in job.recipe}
    options |= {"accumulate": 1} if "accumulate" in options else {}
    command = [job.trainer, "--train", job.shards / "train.bin", "--threads", job.threads, "--profile", 2]
    command += [*options_of(options), *job.checkpoints_needed("teacher"), "--json", result]
    run_to_end(command, job.folder / "log.txt", stop, f"measuring the speed of {job.trainer.name}")
    seconds = read_json(result)["milliseconds_per_step"] / 1e3
    result.unlink()
    return tokens_of_step(options) / seconds
