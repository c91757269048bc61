"""Tests a run whose rank is killed or stopped, whose network is cut or whose disk is full, at random moments.

    tests/parallel/robustness.py PROGRAM [--moments N] [--seed S] [kill] [stop] [cut] [disk]

PROGRAM is train_demo_sm_r_mpi. Every run that had not ended must end with a non-zero status and a sentence
that says why, all its ranks within 30 s of the fault. Then it is resumed with 1, 2 or 4 ranks, and must end
with the same bits as an undisturbed run. cut and disk need root: they create network namespaces
(namespaces.py) and a small tmpfs.
"""

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from namespaces import Machines  # noqa: E402
from prove_bits import result_of, shard  # noqa: E402

LAUNCH = ["mpirun", "--oversubscribe", "--allow-run-as-root", "--bind-to", "none", "-n"]
MAX_SECONDS = 30  # from a fault to the end of all ranks
RANK_TIMEOUT = 8
SAYS = {
    "kill": r"signal 9|[Kk]illed",
    "stop": r"waited [\d.]+ s for ",
    "cut": r"waited [\d.]+ s for |lost connection|lost communication|Connection",
    "disk": r"No space left on device",
}


def ranks_of(out):
    """The processes of the run in a folder, by rank."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, StopIteration):
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
            if state in "ZX" or not Path(os.fsdecode(arguments[0])).name.startswith("train_") or os.fsencode(out) not in arguments:
                continue
            environment = (process / "environ").read_bytes().split(b"\0")
            number = next(entry for entry in environment if entry.startswith(b"OMPI_COMM_WORLD_RANK="))
            found[int(number.split(b"=")[1])] = int(process.name)
    return found


class Trial:
    def __init__(self, options, folder, data):
        self.options = options
        self.folder = folder
        self.out = folder / "run"
        self.data = data

    def words(self, *more):
        return [str(x) for x in [self.options.program, "--train", self.data / "train.bin", "--val", self.data / "val.bin", "--out",
                self.out, "--steps", self.options.steps, "--step-windows", 8, "--batch-size", 2, "--threads", 1, "--log-every", 1,
                "--observe-every", 10, "--eval-every", 20, "--checkpoint-every", 7, "--rank-timeout", RANK_TIMEOUT, *more]]  # fmt: skip

    def whole(self):
        """Seconds of an undisturbed run."""
        started = time.monotonic()
        subprocess.run([*LAUNCH, "2", *self.words()], check=True, capture_output=True)
        return time.monotonic() - started

    def inflict(self, kind, moment, chance):
        """Starts a run and causes a fault. Returns the seconds until all ranks had ended, the status and the
        output; nothing if the run had ended before."""
        zero = ["--zero"] * chance.randrange(2)
        with contextlib.ExitStack() as cleanup:
            machines = None
            launch = [*LAUNCH, "2"]
            if kind == "cut":
                machines = cleanup.enter_context(Machines(2))
                launch = machines.mpirun("/usr/bin/mpirun", 2)
            log = cleanup.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
            program = subprocess.Popen([*launch, *self.words(*zero)], stdout=log, stderr=subprocess.STDOUT)
            cleanup.callback(program.wait)
            cleanup.callback(program.kill)
            until = time.monotonic() + moment
            while time.monotonic() < until and program.poll() is None:
                time.sleep(0.01)
            ranks = ranks_of(self.out)
            if program.poll() is not None or len(ranks) < 2:
                return None
            filler = self.folder / "filler"
            if kind == "cut":
                machines.cut(chance.randrange(2))
            elif kind == "disk":
                with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                    while True:
                        file.write(bytes(1 << 16))
                with contextlib.suppress(OSError), open(filler, "ab", buffering=0) as file:
                    while True:
                        file.write(b"x")
            else:
                os.kill(ranks[chance.randrange(2)], signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
            started = time.monotonic()
            while time.monotonic() - started < 4 * MAX_SECONDS and ranks_of(self.out):
                time.sleep(0.05)
            took = time.monotonic() - started
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(10)
            ended = time.monotonic() - started
            filler.unlink(missing_ok=True)
            for process in ranks_of(self.out).values():
                os.kill(process, signal.SIGKILL)
            status = program.poll()
            if status == 0:  # it had already written everything
                return None
            log.seek(0)
            return took, ended, status, log.read()

    def resume(self, ranks):
        out = subprocess.run([*LAUNCH, str(ranks), *self.words("--resume")], capture_output=True, text=True)
        if out.returncode and "no checkpoint" in out.stderr:  # it had not got that far
            out = subprocess.run([*LAUNCH, str(ranks), *self.words()], capture_output=True, text=True)
        return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("kinds", nargs="*", default=list(SAYS), metavar="KIND")
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    options.program = options.program.resolve()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # namespaces and mounts end with it
    faults = 0
    with tempfile.TemporaryDirectory(prefix="lnfree-robust-") as temporary:
        data = Path(temporary)
        shard(data / "train.bin", 100, 1)
        shard(data / "val.bin", 3, 2)
        reference = data / "reference"
        reference.mkdir()
        seconds = Trial(options, reference, data).whole()
        expected = result_of(reference / "run")
        print(f"a run that nothing befalls takes {seconds:.1f} s; seed {options.seed}", flush=True)
        for kind in options.kinds:
            chance = random.Random(f"{options.seed} {kind}")
            worst, done, missed = 0.0, 0, 0
            while done < options.moments and missed < 3 * options.moments:
                folder = data / f"{kind}{done}"
                folder.mkdir(exist_ok=True)
                with contextlib.ExitStack() as cleanup:
                    if kind == "disk":
                        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder], check=True)
                        cleanup.callback(subprocess.run, ["umount", folder], check=True)
                    trial = Trial(options, folder, data)
                    moment = chance.uniform(0, seconds)
                    result = trial.inflict(kind, moment, chance)
                    if result is None:
                        missed += 1
                        subprocess.run(["rm", "-rf", trial.out], check=True)
                        continue
                    done += 1
                    took, ended, status, output = result
                    worst = max(worst, took)
                    ranks = chance.choice([1, 2, 4])
                    after = trial.resume(ranks)
                    problems = [problem for problem, is_so in (
                        (f"the ranks took {took:.1f} s to end", took > MAX_SECONDS),
                        # mpirun may wait for a lost machine longer than its ranks do.
                        (f"mpirun had not ended after {ended:.1f} s", status is None and kind != "cut"),
                        ("nothing says why: " + output[-600:], not re.search(SAYS[kind], output)),
                        (f"{ranks} ranks could not resume: {after.stderr[-600:]}", after.returncode != 0),
                        ("other bits", after.returncode == 0 and result_of(trial.out) != expected)) if is_so]  # fmt: skip
                    faults += bool(problems)
                    print(f"{kind} after {moment:.2f} s: ended {took:.1f} s later with status {status}, resumed by {ranks}: "
                          f"{'; '.join(problems) or 'same bits'}", flush=True)  # fmt: skip
                subprocess.run(["rm", "-rf", folder], check=True)
            print(f"{kind}: {done} moments, the longest end {worst:.1f} s", flush=True)
    print(f"{faults} failed")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
