#!/usr/bin/python3
"""Converts the metrics of runs into event files for TensorBoard, one run for each.

Every number becomes a scalar. Entropies become one for each head, and a histogram over all heads. With
--follow the program continues while the runs are trained. A second conversion into the same folder replaces
the first.
"""

import math
import time

import run_folders

# The suffix of the files written here, by which the next conversion finds them.
SUFFIX = ".lnfree"
BUCKETS = 30


class EventFile:
    """The events of one run."""

    def __init__(self, folder, out):
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise run_folders.needed("tensorboard", error) from error
        self.event, self.summary = event_pb2, summary_pb2
        self.metrics = run_folders.Metrics(folder / run_folders.FILE)
        for old in out.glob(f"events.out.tfevents.*{SUFFIX}") if out.is_dir() else ():
            old.unlink()
        self.writer = EventFileWriter(str(out), filename_suffix=SUFFIX)

    def update(self):
        """Writes the new lines; returns their number."""
        entries, anew = self.metrics.update()
        if anew:
            # What has been written is obsolete: the run resumed from an earlier checkpoint.
            start = self.event.SessionLog(status=self.event.SessionLog.START)
            self.writer.add_event(self.event.Event(wall_time=time.time(), step=0, session_log=start))
        for entry in entries:
            values = [self.summary.Summary.Value(tag=tag, simple_value=x) for tag, x in run_folders.series(entry).items()]
            values += [
                self.summary.Summary.Value(tag=f"{name}/heads", histo=self.histogram(numbers))
                for name, numbers in run_folders.tables(entry).items()
                if numbers
            ]
            if values:
                summary = self.summary.Summary(value=values)
                self.writer.add_event(
                    self.event.Event(wall_time=time.time(), step=entry["step"], summary=summary)
                )
        self.writer.flush()
        return len(entries)

    def histogram(self, numbers):
        """Finite numbers in buckets of equal width."""
        low, high = min(numbers), max(numbers)
        width = (high - low) / BUCKETS or 1.0
        counts = [0] * BUCKETS
        for number in numbers:
            counts[min(int((number - low) / width), BUCKETS - 1)] += 1
        return self.summary.HistogramProto(
            min=low,
            max=high,
            num=len(numbers),
            sum=math.fsum(numbers),
            sum_squares=math.fsum(number * number for number in numbers),
            bucket_limit=[low + width * (i + 1) for i in range(BUCKETS)],
            bucket=counts,
        )


def program():
    parser = run_folders.parser_of(__doc__)
    parser.add_argument("--follow", action="store_true", help="continue while the runs are trained, until Ctrl-C")
    options = parser.parse_args()
    folders = run_folders.run_folders(options.runs)
    files = {name: EventFile(folder, options.out / name) for name, folder in folders.items()}
    for name, file in files.items():
        print(f"{name}: {file.update()} lines", flush=True)
    print(f"tensorboard --logdir {options.out}", flush=True)
    try:
        while options.follow:
            time.sleep(1)
            for file in files.values():
                file.update()
    finally:
        for file in files.values():
            file.writer.close()


if __name__ == "__main__":
    run_folders.main(program)
