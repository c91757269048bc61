#!/usr/bin/python3
"""Converts the metrics of runs into offline runs of Weights & Biases, which you can upload with `wandb sync`.

Nothing leaves the machine. Every number becomes a series; training options and model sizes become the run's
configuration.
"""

import os

import run_folders


def program():
    parser = run_folders.parser_of(__doc__)
    parser.add_argument("--project", default="lnfree", help="name of the project (default: lnfree)")
    options = parser.parse_args()
    folders = run_folders.run_folders(options.runs)
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        import wandb
    except ImportError as error:
        raise run_folders.needed("wandb", error) from error
    options.out.mkdir(parents=True, exist_ok=True)
    for name, folder in folders.items():
        run = wandb.init(
            mode="offline",
            dir=str(options.out),
            project=options.project,
            name=name,
            config=run_folders.configuration(folder),
            reinit=True,
        )
        steps = run_folders.by_step(run_folders.Metrics(folder / run_folders.FILE).update()[0])
        for step, numbers in steps:
            run.log(numbers, step=step)
        run.finish()
        print(f"{name}: {len(steps)} steps")
    print(f"wandb sync {options.out}/wandb/offline-run-*")


if __name__ == "__main__":
    run_folders.main(program)
