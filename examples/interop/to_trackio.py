#!/usr/bin/python3
"""Converts the metrics of runs into runs of Trackio, in a folder on this machine.

Every number becomes a series; training options and model sizes become the run's configuration.
"""

import os

import run_folders


def program():
    parser = run_folders.parser_of(__doc__)
    parser.add_argument("--project", default="lnfree", help="name of the project (default: lnfree)")
    options = parser.parse_args()
    folders = run_folders.run_folders(options.runs)
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ["TRACKIO_DIR"] = str(options.out.resolve())  # read when the package is loaded
    try:
        import trackio
    except ImportError as error:
        raise run_folders.needed("trackio", error) from error
    for name, folder in folders.items():
        trackio.init(project=options.project, name=name, config=run_folders.configuration(folder))
        steps = run_folders.by_step(run_folders.Metrics(folder / run_folders.FILE).update()[0])
        for step, numbers in steps:
            trackio.log(numbers, step=step)
        trackio.finish()
        print(f"{name}: {len(steps)} steps")
    print(f"TRACKIO_DIR={options.out} trackio show --project {options.project}")


if __name__ == "__main__":
    run_folders.main(program)
