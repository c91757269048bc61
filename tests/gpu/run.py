"""Runs the tests that need a GPU and rewrites results.json after each of them: the job behind run.sh.

Boost.Test programs count by their cases; every run of compute-sanitizer and every comparison with PyTorch counts as one
test. Several run at a time, since most of their work is on the CPU.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

PARITY = Path(__file__).resolve().parents[1] / "parity/parity.py"
TIME_LIMIT = 540  # seconds for all together, so that a job of ten minutes can still report what took too long
AT_A_TIME = 4
SKIPPED, NO_DEVICE, SANITIZER_ERRORS = 77, 4, 99

# What compute-sanitizer checks. cuBLASLt's kernels are excluded, except for initcheck, which must watch them
# to know that their output is initialized. The tests of single primitives initialize all memory, so initcheck
# runs on whole models. Even there it finds little, since a model's memory is zeroed on allocation
# (core/memory.hpp), except scratch memory.
OWN_KERNELS = ["--kernel-name", "kernel_substring=lnfree"]
SANITIZERS = {
    "memcheck": (OWN_KERNELS, "gpu_device", [
        "device_attention", "device_cross_entropy", "device_dropout", "device_elementwise", "device_embedding",
        "device_entropy", "device_fp8", "device_int8", "device_norm", "device_for_each_element", "device_rotary", "device_statistics",
        "products_in_eight_bits", "recording"]),
    "racecheck": (OWN_KERNELS, "gpu_device", [
        "device_attention/agrees_on_larger_sizes*", "device_attention/bears*", "device_cross_entropy",
        "device_elementwise/biases_agree*", "device_embedding", "device_entropy", "device_fp8", "device_int8", "device_norm",
        "device_for_each_element", "device_statistics", "products_in_eight_bits"]),
    "initcheck": ([], "gpu_nn", [
        "device_against_the_oracle/in_fp8", "device_against_the_oracle/in_int8",
        "device_against_the_oracle/the_paper_s_configurations", "device_against_the_oracle/other_layouts_and_policies"]),
}  # fmt: skip


class GpuTestError(Exception):
    """A one-sentence error message for the user."""


class Stage:
    """One program's run: its counts, and why it failed."""

    def __init__(self, name, command):
        self.name = name
        self.command = [str(word) for word in command]
        self.seconds = 0.0
        self.passed = self.failed = self.skipped = 0
        self.failures = []
        self._process = None

    def run(self, out, environment, seconds_left):
        started = time.monotonic()
        log = out / f"{self.name}.log"
        with open(log, "w", encoding="utf-8") as file:
            try:
                self._process = subprocess.Popen(
                    self.command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
                )
                status = self._process.wait(max(1, seconds_left))
            except subprocess.TimeoutExpired:
                self.kill()
                status = "took too long"
            except OSError as error:
                status = f"{self.command[0]} cannot be run ({error.strerror})"
        self.seconds = time.monotonic() - started
        self.judge(status, log)

    def kill(self):
        """Ends the program if it still runs, with all its children: compute-sanitizer has a child on the
        GPU."""
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def results(self):
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def judge(self, status, log):
        """Counts the results of a run: `status` is its exit status, or a word on why there is none."""
        if status == SKIPPED:
            self.skipped = 1
        elif status == 0:
            self.passed = 1
        else:
            self.fail(status if isinstance(status, str) else f"ended with status {status}", log)

    def fail(self, reason, log):
        self.failed += 1
        self.failures.append(f"{reason}; see {log}")


class BoostStage(Stage):
    """A Boost.Test program, whose cases count."""

    def __init__(self, name, program, out):
        self.report = out / f"{name}.xml"
        super().__init__(name, [program, "--color_output=no", f"--logger=HRF,error,stdout:JUNIT,error,{self.report}"])

    def run(self, out, environment, seconds_left):
        self.report.unlink(missing_ok=True)
        super().run(out, environment, seconds_left)

    def judge(self, status, log):
        try:
            cases = list(xml.etree.ElementTree.parse(self.report).getroot().iter("testcase"))
        except (OSError, xml.etree.ElementTree.ParseError):
            cases = []
        for case in cases:
            if case.find("skipped") is not None:
                self.skipped += 1
            elif case.find("failure") is None and case.find("error") is None:
                self.passed += 1
            else:
                self.fail(f"{case.get('classname')}/{case.get('name')}", log)
        if not cases or (status != 0 and not self.failed):
            super().judge(status or "ended with status 0 and no report", log)


def check_device(build):
    """One sentence if the programs cannot run at all."""
    program = build / "bin/gpu_device"
    try:
        listed = subprocess.run([program, "--list_content"], capture_output=True, text=True)
    except OSError as error:
        raise GpuTestError(f"{program} cannot be run ({error.strerror}); build it, or give --build another folder") from None
    if listed.returncode == 127:
        raise GpuTestError(
            f"{program} cannot start: {listed.stderr.strip()}; add the folder of CUDA's libraries to LD_LIBRARY_PATH"
        )
    if listed.returncode == NO_DEVICE:
        raise GpuTestError(listed.stderr.strip())


def sanitizer_program():
    """Its path, or its bare name if it is missing."""
    return shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer") or "compute-sanitizer"


def stages_of(build, out, quick):
    programs = build / "bin"
    # The longest first.
    stages = []
    if not quick:
        sanitizer = sanitizer_program()
        for tool, (options, program, cases) in SANITIZERS.items():
            command = [sanitizer, "--tool", tool, "--error-exitcode", SANITIZER_ERRORS, "--report-api-errors", "no", *options]
            stages.append(Stage(tool, [*command, programs / program, "--color_output=no", f"--run_test={':'.join(cases)}"]))
    stages += [BoostStage(name, programs / name, out) for name in ("gpu_whole_models", "gpu_device", "gpu_nn")]
    # One process, and one for each GPU; none if the programs were built without NCCL.
    if (programs / "gpu_ranks").exists():
        gpus = max(1, len(gpu().splitlines()))
        for count in {1, 1 << (gpus.bit_length() - 1)}:
            stages.append(Stage(f"gpu_ranks_{count}", [programs / "gpu_ranks", count]))
    for name, options in (("gpu_parity_cudafp32", []), ("gpu_parity_cuda", ["--bf16"])):
        stages.append(Stage(name, [sys.executable, "-B", PARITY, programs / name, *options]))
    return stages


def gpu():
    """nvidia-smi's description of the GPUs."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True).stdout.strip()
    except OSError:
        return "unknown"


def table_of(stages):
    lines = [f"{'':<22}{'seconds':>8}{'passed':>8}{'failed':>8}{'skipped':>9}"]
    for s in stages:
        lines.append(f"{s.name:<22}{s.seconds:>8.1f}{s.passed:>8}{s.failed:>8}{s.skipped:>9}")
        lines += [f"  failed: {failure}" for failure in s.failures]
    return "\n".join(lines)


def write(path, text):
    """Writes under a temporary name and renames, so that the file is never incomplete."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def main():
    parser = argparse.ArgumentParser(description="Runs the tests that need a GPU.")
    parser.add_argument("--build", type=Path, required=True, help="folder with the programs in bin/")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and the logs")
    parser.add_argument("--quick", action="store_true", help="without compute-sanitizer")
    options = parser.parse_args()
    started = time.monotonic()
    # Exits by an exception, so that the running programs are also ended.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    seed = os.environ.get("LNFREE_TEST_SEED") or str(secrets.randbelow(2**31))
    try:
        check_device(options.build)
        options.out.mkdir(parents=True, exist_ok=True)
        stages = stages_of(options.build, options.out, options.quick)
    except (GpuTestError, OSError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        print("0 passed, 1 failed")
        return 1
    device = gpu()
    print(f"== {device}, repeat with LNFREE_TEST_SEED={seed}", flush=True)

    def run(stage):
        stage.run(options.out, os.environ | {"LNFREE_TEST_SEED": seed}, TIME_LIMIT - (time.monotonic() - started))
        print(f"== {stage.name}: {stage.seconds:.0f} s, {stage.passed} passed, {stage.failed} failed", flush=True)
        return stage

    done = []

    def keep():
        """Writes the present results."""
        results = {"gpu": device, "seed": seed, "quick": options.quick, "seconds": time.monotonic() - started,
                   "passed": sum(s.passed for s in done), "failed": sum(s.failed for s in done),
                   "stages": [s.results() for s in done], "unfinished": [s.name for s in stages if s not in done]}  # fmt: skip
        write(options.out / "results.json", json.dumps(results, indent=2, default=str) + "\n")
        return results

    keep()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        try:
            for ended in as_completed([pool.submit(run, stage) for stage in stages]):
                done.append(ended.result())
                results = keep()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for stage in stages:
                stage.kill()
            raise
    passed, failed = results["passed"], results["failed"]
    print(table_of(stages))
    print(f"== summary: {time.monotonic() - started:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
