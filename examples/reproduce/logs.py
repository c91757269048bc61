"""Reads the trainers' files in a root folder as runs."""

import math
import statistics
from dataclasses import dataclass, field

import numpy as np

from configurations import CONFIGURATIONS
from files import ReproduceError, read_json, read_settings
from metrics import Metrics, by_kind
from runs import Spec, tokens_of


# What trainers observe for each layer, by kind of line in metrics.jsonl.
BY_LAYER = {"stream": ("rms", "kurtosis", "zeros"), "signal": ("cosine", "effective_rank")}


@dataclass
class Run:
    """One evaluated run. Values that are not finite are NaN here and null in results.json."""

    spec: Spec
    recipe: dict
    parameters: int
    steps: int
    tokens: int
    eval_loss: float  # nats per target
    perplexity: float
    tokens_per_second: float  # median over the training lines
    seconds: float  # spent training, over all resumes
    device: str | None  # its name; None if it was not recorded
    head_entropy: np.ndarray  # (layers, heads), nats
    nonfinite_rows: int
    evaluations: list  # (step, loss)
    entropies: list  # (step, (layers, heads))
    slopes: list  # (step, (layers,) or (1,)), empty without learnable slopes
    by_layer: dict  # final values of each layer by the names in BY_LAYER, if observed
    losses_not_finite: int  # training lines whose loss is null
    gates: list = field(default_factory=list)  # (step, mean gate of the norms), empty if none are removed
    halves: tuple | None = None  # losses on the first and on the second half of the held-out files, if known
    downstream: dict | None = None  # downstream.json, if the run was measured

    @property
    def config(self):
        return self.spec.config

    @property
    def label(self):
        return CONFIGURATIONS[self.config].label

    @property
    def diverged(self):
        return not math.isfinite(self.perplexity)

    def tokens_at(self, step):
        return step * self.tokens / self.steps


def read_object(path, hint):
    """The file's JSON object; `hint` is the advice if it is missing."""
    value = read_json(path)
    if value is None:
        raise ReproduceError(f"{path} is missing; {hint}.")
    if not isinstance(value, dict):
        raise ReproduceError(f"{path} does not hold a JSON object; {hint}.")
    return value


def read_spec(folder):
    """(what run the folder holds, the content of its run.json)."""
    kept = read_object(folder / "run.json", "run the job again")
    try:
        kept["recipe"]["steps"], kept["seconds"]
        return Spec.from_json(kept["spec"]), kept
    except (KeyError, TypeError, ValueError) as error:
        raise ReproduceError(
            f"{folder / 'run.json'} is from another version ({error}); remove {folder} and run the job again."
        ) from error


def number(value):
    """null as NaN."""
    return math.nan if value is None else float(value)


def numbers(value, dimensions, name, where):
    """A list, or a list of lists, as an array; null as NaN."""
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim != dimensions or 0 in array.shape:
        what = "a table of layers by heads" if dimensions == 2 else "a list of numbers"
        raise ReproduceError(f"{name} in {where} is not {what}; remove the file and run the job again.")
    return array


def read_metrics(path):
    """The entries of metrics.jsonl as {kind: [entries by step]}, empty for a missing kind."""
    if not path.exists():
        raise ReproduceError(f"{path} is missing; the run was not trained here.")
    found = by_kind(Metrics(path).update()[0])
    kinds = ("train", "eval", "entropy", "slopes", *BY_LAYER)
    return {kind: list(found.get(kind, {}).values()) for kind in kinds}


def losses_of_halves(whole, first):
    """Losses on both halves of the held-out files, from the evaluations of all of them and of the first half;
    None if one of these is missing or has no loss."""
    try:
        targets = whole["targets"] - first["targets"]
        second = (number(whole["eval_loss"]) * whole["targets"] - number(first["eval_loss"]) * first["targets"]) / targets
        return number(first["eval_loss"]), second
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def read_run(folder):
    """One run's folder as a Run."""
    where = folder / "evaluation.json"
    evaluation = read_object(where, "remove it and run the job again")
    spec, kept = read_spec(folder)
    log = folder / "metrics.jsonl"
    metrics = read_metrics(log)
    recipe, steps = kept["recipe"], kept["recipe"]["steps"]
    speeds = [line["tokens_per_second"] for line in metrics["train"] if line.get("tokens_per_second")]
    # Over the held-out files if the evaluation measured it, else of the last observed batch.
    last = {}
    for kind in BY_LAYER:
        last |= metrics[kind][-1] if metrics[kind] else {}
    last |= evaluation
    try:
        run = Run(
            spec=spec,
            recipe=recipe,
            parameters=int(evaluation["parameters"]),
            steps=steps,
            tokens=tokens_of(recipe),
            eval_loss=number(evaluation["eval_loss"]),
            perplexity=number(evaluation["perplexity"]),
            tokens_per_second=statistics.median(speeds) if speeds else math.nan,
            seconds=number(kept["seconds"]),
            device=kept.get("device"),
            head_entropy=numbers(evaluation["head_entropy"], 2, "head_entropy", where),
            nonfinite_rows=int(evaluation["nonfinite_rows"]),
            evaluations=[(line["step"], number(line.get("eval_loss"))) for line in metrics["eval"]],
            entropies=[
                (line["step"], numbers(line.get("head_entropy"), 2, "head_entropy", log))
                for line in metrics["entropy"]
            ],
            slopes=[
                (line["step"], numbers(line.get("slopes"), 1, "slopes", log)) for line in metrics["slopes"]
            ],
            by_layer={
                name: numbers(last[name], 1, name, folder)
                for names in BY_LAYER.values()
                for name in names
                if last.get(name)
            },
            losses_not_finite=sum(line.get("loss") is None for line in metrics["train"]),
            downstream=read_json(folder / "downstream.json"),
            gates=[(line["step"], number(line["norm_gate"])) for line in metrics["train"] if "norm_gate" in line],
        )
    except KeyError as error:
        raise ReproduceError(f"{where} has no {error}; remove it and run the job again.") from error
    run.halves = losses_of_halves(evaluation, read_json(folder / "selection.json"))
    if any(matrix.shape != run.head_entropy.shape for _, matrix in run.entropies):
        raise ReproduceError(f"{log} and {where} disagree on the number of layers or heads.")
    # Curves end at the values in the tables, whether or not the trainer logged after its last step.
    if not run.evaluations or run.evaluations[-1][0] < steps:
        run.evaluations.append((steps, run.eval_loss))
    if run.slopes and evaluation.get("slopes") and run.slopes[-1][0] < steps:
        run.slopes.append((steps, numbers(evaluation["slopes"], 1, "slopes", where)))
    return run


def read_root(root):
    """(settings, corpus, evaluated runs, labels of unfinished ones) of a root folder."""
    settings = read_settings(root)
    if settings is None:
        raise ReproduceError(
            f"{root / 'settings.json'} is missing; give the folder that examples/reproduce.sh wrote (its --out)."
        )
    corpus = read_object(root / "corpus.json", "run the job again")
    try:
        settings["scale"], settings["corpus"]
        corpus["input"], corpus["prepared"]["128"]["train"]["windows"], corpus["unigram_loss"]["128"]
    except (KeyError, TypeError) as error:
        raise ReproduceError(
            f"settings.json or corpus.json in {root} has no {error}; was it written by another version?"
        ) from error
    begun = sorted((root / "runs").iterdir()) if (root / "runs").is_dir() else []
    runs = [read_run(folder) for folder in begun if (folder / "evaluation.json").exists()]
    if not runs:
        raise ReproduceError(f"{root} holds no evaluated run yet; run the job again to continue.")
    order = list(CONFIGURATIONS)
    runs.sort(key=lambda run: (run.spec.seed, not run.spec.is_bare, order.index(run.config), run.spec.rate_factor))
    unfinished = [
        read_spec(folder)[0].label
        for folder in begun
        if (folder / "run.json").exists() and not (folder / "evaluation.json").exists()
    ]
    return settings, corpus, runs, unfinished
