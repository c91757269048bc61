"""What a job is about to do, and how long that may take."""

from files import read_json
from programs import run_to_end
from experiments import SCALES, options_of, tokens_of
from progress import duration


def print_plan(jobs, workers, scale, stop):
    """One line for each shape and context; where runs are long, the time they take by a speed measured on
    one of them first."""
    todo = [job for job in jobs if not job.done]
    print(f"plan: {len(jobs)} runs, {len(jobs) - len(todo)} of them done, {workers} at a time", flush=True)
    seconds = 0.0
    for shape, context in dict.fromkeys((job.spec.shape, job.spec.context) for job in todo):
        same = [job for job in todo if (job.spec.shape, job.spec.context) == (shape, context)]
        tokens = sum(tokens_of(job.recipe) for job in same)
        text = f"plan: {shape}, windows of {context}: {len(same)} runs, {tokens / 1e6:,.1f} M tokens"
        if SCALES[scale].steps is None:
            needs = tokens / measured_speed(same[0], stop)
            seconds += needs
            text += f", about {duration(needs)}"
        print(text, flush=True)
    if seconds:
        print(f"plan: about {duration(seconds)} in all on this machine", flush=True)


def measured_speed(job, stop):
    """Tokens in a second, of two passes of the run's own trainer."""
    job.folder.mkdir(parents=True, exist_ok=True)
    result = job.folder / "speed.json"
    options = {name: job.recipe[name] for name in ("batch_size", "context")}
    command = [job.trainer, "--train", job.shards / "train.bin", "--threads", job.threads, "--profile", 2]
    command += [*options_of(options | {"accumulate": 1}), "--json", result]
    run_to_end(command, job.folder / "log.txt", stop, f"measuring the speed of {job.trainer.name}")
    per_pass = read_json(result)["milliseconds_per_step"] / 1e3
    result.unlink()
    return job.recipe["batch_size"] * job.recipe["context"] / per_pass
