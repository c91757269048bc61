"""Trains, evaluates and reports the paper's experiments: the job behind reproduce.sh.

All its state is in one root folder, so that the same command continues after an interruption at any point,
and experiments share the runs that they have in common:

    settings.json    scale, corpus and device; others are refused later
    corpus.json      the corpus as prepared, with its sources
    runs/NAME/       one trainer's folder, see jobs.Job
    results.json, report.md, report.html, figures/
                     written by report.py once every run is evaluated
"""

import argparse
import contextlib
import math
import sys
from functools import partial
from pathlib import Path

import experiments
from configurations import CONFIGURATIONS, PAPER_CONFIGS, RECIPES
from corpus import PROJECT, prepare
from experiments import EXPERIMENTS, GROUPS
from files import ReproduceError, lock, name_of, read_json, read_settings, write_json
from jobs import Job, train_all, workers_of
from plan import check_device, plans_of, print_plan
from programs import Interrupted, Stop
from runs import DEVICE_SUFFIX, FIRST_RECIPE
from scales import CONTEXT, SCALES


def settings_of(arguments):
    """The settings that are fixed for a root folder."""
    return {
        "scale": arguments.scale,
        "corpus": name_of(arguments.corpus) if arguments.corpus else "debian",
        "device": arguments.device,
        "ranks": arguments.ranks,
    }


def check_settings(arguments):
    """Refuses a folder started with other settings, or not made by this program."""
    found = read_settings(arguments.out)
    if found is None:
        if arguments.out.exists() and any(entry.name != ".lock" for entry in arguments.out.iterdir()):
            raise ReproduceError(
                f"{arguments.out} is not empty and holds no run of this program; give another --out."
            )
        return
    for name, value in settings_of(arguments).items():
        if found.get(name) != value:
            raise ReproduceError(
                f"{arguments.out} was started with {name} {found.get(name)}, not {value}; "
                "give the same to continue, or another --out."
            )


def selection_loss(arguments, spec):
    """See Request."""
    found = read_json(arguments.out / "runs" / spec.name / "selection.json")
    return found and (math.inf if found["eval_loss"] is None else found["eval_loss"])


def grid_of(arguments, chosen=None):
    """The requested runs, or those of some experiments, as far as they can be known from the runs that have
    ended."""
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    return experiments.grid(
        arguments.experiment if chosen is None else chosen,
        arguments.scale,
        arguments.recipe,
        seeds,
        arguments.configs,
        partial(selection_loss, arguments),
    )


def live_page(arguments, planned=None, workers=1):
    """A context in which the page of --live is served; does nothing without that option."""
    if arguments.live is None:
        return contextlib.nullcontext()
    import live  # only now, since it takes a moment to load

    return live.Server(live.Board(arguments.out, planned, workers), arguments.live)


def reproduce(arguments, stop):
    """The whole job, from the corpus to the report."""
    specs = grid_of(arguments)
    check_settings(arguments)
    with live_page(arguments):  # to check that its port is free
        pass
    if arguments.check:
        return
    held = lock(arguments.out / ".lock")
    if held is None:
        raise ReproduceError(f"another job is running in {arguments.out}.")
    with held:
        check_device(specs, arguments, stop)
        if not (arguments.out / "settings.json").exists():
            write_json(arguments.out / "settings.json", settings_of(arguments))
        halved = {spec.context for spec, in_halves in specs.items() if in_halves}
        measuring = experiments.that_measure(arguments.experiment)
        shards, corpus = prepare(arguments, {spec.context for spec in specs}, halved, stop, bool(measuring))
        jobs = {}

        def make_jobs(specs):
            """Adds the requested runs to `jobs`, and returns those that are not done."""
            for spec, in_halves in specs.items():
                if spec not in jobs:
                    windows = corpus["prepared"][str(spec.context)]["train"]["windows"]
                    jobs[spec] = Job(spec, arguments, shards[spec.context], windows, jobs)
                    if jobs[spec].steps < 1:
                        raise ReproduceError(
                            f"the corpus is too small for one step of {spec.label}: an epoch is "
                            f"{windows} windows; give a larger --corpus or another --scale."
                        )
                jobs[spec].in_halves |= in_halves
                jobs[spec].check_checkpoints()
            return [job for job in jobs.values() if not job.done]

        make_jobs(specs)
        workers = workers_of(arguments.scale, arguments.device, arguments.ranks)
        print_plan(list(jobs.values()), workers, arguments.scale, stop)
        with live_page(arguments, {job.folder: job.spec for job in jobs.values()}, workers) as page:
            if page is not None:
                print(f"live: {page.url} while the runs are trained", flush=True)

            def more():
                known = set(jobs)
                left = make_jobs(grid_of(arguments))
                plans_of([job for job in left if job.spec not in known], stop)
                if page is not None:
                    page.board.add({job.folder: job.spec for job in left})
                return left

            train_all(jobs.values(), workers, stop, more)
        for module in measuring:
            own = set(grid_of(arguments, [module.name]))
            module.measure([job for job in jobs.values() if job.spec in own], arguments, shards[CONTEXT], stop)
        print("report: tables and figures", flush=True)
        import report  # only now, since matplotlib takes seconds to load

        report.write_report(arguments.out)
    print(f"\nThe report is {arguments.out / 'report.html'} (report.md beside it)")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="reproduce", description=__doc__.split("\n")[0])
    option = parser.add_argument
    option("--experiment", nargs="+", choices=[*EXPERIMENTS, *GROUPS], default=[next(iter(EXPERIMENTS))])
    option("--scale", choices=list(SCALES), default="demo", help="how much to train (default: demo)")
    option("--recipe", choices=list(RECIPES), default=FIRST_RECIPE, help="that of the paper's code, or of its text (clean), or that with an output matrix of its own (clean_untied)")
    option("--corpus", type=Path, help="folder of Python files or .jsonl file (default: Debian packages)")
    option("--tokenizer", type=Path, help="SentencePiece model or tokenizer.json (default: trained on the corpus)")
    option("--skip-invalid", action="store_true", help="skip what cannot be read or is not text")
    option("--configs", nargs="+", choices=list(CONFIGURATIONS), default=list(PAPER_CONFIGS))
    option("--seed", type=int, default=0, help="first seed of weights, order and dropout (default: 0)")
    option("--seeds", type=int, default=1, help="how many seeds (default: 1)")
    option("--out", type=Path, required=True, help="the root folder")
    option("--device", choices=list(DEVICE_SUFFIX), default="cpu")
    option("--ranks", type=int, default=1, help="processes that train each run together (default: 1)")
    option(
        "--programs",
        type=Path,
        default=PROJECT / "build" / "release" / "bin",
        help="folder of prepare_corpus and the trainers (default: build/release/bin)",
    )
    option("--live", type=int, metavar="PORT", help="serve a page about the runs on this port of 127.0.0.1 (0: any)")
    option("--check", action="store_true", help="only check that --out fits the other options")
    option("--targets", action="store_true", help="only print the programs that are needed")
    return parser.parse_args()


def main():
    # A path may have any bytes; they are printed unchanged.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="surrogateescape")
    arguments = parse_arguments()
    if arguments.targets:
        trainers = dict.fromkeys(spec.trainer(arguments.device, arguments.ranks) for spec in grid_of(arguments))
        others = [name for module in experiments.that_measure(arguments.experiment) for name in module.PROGRAMS]
        print("\n".join(["prepare_corpus", *others, *trainers]))
        return
    stop = Stop()
    try:
        reproduce(arguments, stop)
    except Interrupted as interrupted:
        print("\nStopped; everything is saved. The same command continues from here.", flush=True)
        sys.exit(128 + interrupted.args[0])
    except (ReproduceError, OSError) as error:
        print(f"reproduce: {error}", file=sys.stderr)
        if (arguments.out / "settings.json").exists() and not arguments.check:
            print("reproduce: once that is fixed, the same command continues from here.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
