"""The job behind run.sh, with programs that only print made-up results.

    test_run.py TEST_DEVICE_CUDA TEST_NN_CUDA    the programs of the simulator, which have the GPU's cases
"""

import contextlib
import fnmatch
import io
import json
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import run  # noqa: E402

PROGRAMS = ("gpu_device", "gpu_nn", "gpu_whole_models", "gpu_parity_cuda", "gpu_parity_cudafp32")
# A Boost.Test program's output and exit status.
BOOST = """#!/bin/bash
[[ $1 != --list_content ]] || exit 0
[[ $* =~ JUNIT,error,([^ ]+) ]] && printf '<testsuite>%s</testsuite>' '{cases}' >"${{BASH_REMATCH[1]}}"
echo "seed $LNFREE_TEST_SEED"
exit {status}
"""
PASSED = '<testcase classname="suite" name="good"/>'
FAILED = '<testcase classname="suite" name="bad"><failure/></testcase>'
SKIPPED = '<testcase classname="suite" name="other"><skipped/></testcase>'
DEVICE, NN = None, None


def cases_of(program):
    """The suites and cases of a Boost.Test program, as its filters name them."""
    listed = subprocess.run([program, "--list_content"], capture_output=True, text=True, check=True).stderr
    names, suite = [], None
    for line in listed.splitlines():
        name = line.strip().removesuffix("*")
        suite = suite if line.startswith(" ") else name
        names.append(f"{suite}/{name}" if line.startswith(" ") else name)
    return names


class Run(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for name in PROGRAMS:
            self.program(name, BOOST.format(cases=PASSED, status=0))
        self.parity = self.program("parity.py", "import sys; sys.exit(0)")

    def program(self, name, text):
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def run_main(self, *options, sanitizer=None):
        """The exit status, the output, and results.json."""
        out = self.folder / "out"
        arguments = ["run.py", "--build", str(self.folder), "--out", str(out), *options]
        printed = io.StringIO()
        which = lambda name: str(sanitizer) if sanitizer and name == "compute-sanitizer" else None  # noqa: E731
        with mock.patch.object(sys, "argv", arguments), mock.patch.object(run, "PARITY", self.parity), \
             mock.patch.object(run.shutil, "which", which), contextlib.redirect_stdout(printed), \
             contextlib.redirect_stderr(printed), mock.patch.object(run.signal, "signal"):  # fmt: skip
            status = run.main()
        return status, printed.getvalue(), self.kept()

    def kept(self):
        results = self.folder / "out/results.json"
        return json.loads(results.read_text()) if results.exists() else None

    def stage(self, results, name):
        return next(s for s in results["stages"] if s["name"] == name)

    def test_all_is_well(self):
        status, printed, results = self.run_main("--quick")
        self.assertEqual((status, printed.splitlines()[-1]), (0, "5 passed, 0 failed"))
        self.assertEqual((results["passed"], results["failed"], results["quick"]), (5, 0, True))
        self.assertEqual({s["name"] for s in results["stages"]}, set(PROGRAMS))
        self.assertIn(f"seed {results['seed']}", (self.folder / "out/gpu_nn.log").read_text())
        self.assertRegex(printed, r"gpu_nn +\d+\.\d +1 +0 +0\n")

    def test_every_failed_case_counts_and_is_named(self):
        self.program("gpu_nn", BOOST.format(cases=PASSED + FAILED + SKIPPED + FAILED, status=201))
        status, printed, results = self.run_main("--quick")
        self.assertEqual((status, printed.splitlines()[-1]), (1, "5 passed, 2 failed"))
        self.assertIn("  failed: suite/bad; see ", printed)
        self.assertEqual(self.stage(results, "gpu_nn")["skipped"], 1)

    def test_a_program_that_ends_too_early_fails(self):
        for status, cases, reason in ((139, None, "ended with status 139"), (0, None, "ended with status 0 and no report"),
                                      (1, PASSED, "ended with status 1")):  # fmt: skip
            with self.subTest(status=status, cases=cases):
                text = BOOST.format(cases=cases or "", status=status)
                self.program("gpu_nn", text if cases else text.replace("JUNIT", "NOTHING"))
                ended, printed, _ = self.run_main("--quick")
                self.assertEqual(ended, 1)
                self.assertIn(f"  failed: {reason}; see ", printed)

    def test_a_report_of_an_earlier_run_is_not_believed(self):
        self.run_main("--quick")
        self.program("gpu_nn", "#!/bin/sh\nexit 0\n")
        self.assertIn("status 0 and no report", self.run_main("--quick")[1])

    def test_parity_without_pytorch_is_skipped(self):
        self.program("parity.py", "import sys; sys.exit(77)")
        status, printed, results = self.run_main("--quick")
        self.assertEqual((status, printed.splitlines()[-1]), (0, "3 passed, 0 failed"))
        self.assertEqual([self.stage(results, n)["skipped"] for n in PROGRAMS], [0, 0, 0, 1, 1])

    def test_ranks_are_one_and_as_many_as_there_are_gpus(self):
        """A power of two of them; none if the programs were built without NCCL."""
        self.program("gpu_ranks", '#!/bin/sh\necho "$1 ranks"\n')
        with mock.patch.object(run, "gpu", lambda: "first\nsecond\nthird"):
            status, printed, results = self.run_main("--quick")
        self.assertEqual((status, printed.splitlines()[-1]), (0, "7 passed, 0 failed"))
        self.assertEqual({s["name"] for s in results["stages"]} - set(PROGRAMS), {"gpu_ranks_1", "gpu_ranks_2"})
        self.assertEqual((self.folder / "out/gpu_ranks_2.log").read_text(), "2 ranks\n")

    def test_sanitizers_count_and_their_errors_fail(self):
        sanitizer = self.program("compute-sanitizer", f'#!/bin/sh\n[ "$2" != racecheck ] || exit {run.SANITIZER_ERRORS}\n')
        status, printed, results = self.run_main(sanitizer=sanitizer)
        self.assertEqual((status, printed.splitlines()[-1]), (1, "7 passed, 1 failed"))
        self.assertEqual(self.stage(results, "racecheck")["failed"], 1)

    def test_a_missing_sanitizer_fails_and_the_others_run(self):
        status, printed, results = self.run_main()
        self.assertEqual((status, printed.splitlines()[-1]), (1, "5 passed, 3 failed"))
        self.assertIn("  failed: compute-sanitizer cannot be run (No such file or directory); see ", printed)
        self.assertEqual([self.stage(results, tool)["failed"] for tool in run.SANITIZERS], [1, 1, 1])

    def test_no_gpu_no_program_and_no_library_are_told_in_a_sentence(self):
        for text, expected in (("#!/bin/sh\necho no CUDA device >&2\nexit 4\n", "run.py: no CUDA device\n"),
                               ("#!/bin/sh\necho libcublasLt.so.13 >&2\nexit 127\n", "cannot start: libcublasLt.so.13; add"),
                               (None, "cannot be run (No such file or directory); build it")):  # fmt: skip
            with self.subTest(expected):
                if text:
                    self.program("gpu_device", text)
                else:
                    (self.folder / "bin/gpu_device").unlink()
                status, printed, results = self.run_main("--quick")
                self.assertEqual((status, printed.splitlines()[-1], results), (1, "0 passed, 1 failed", None))
                self.assertIn(expected, printed)

    def left_over(self):
        """A program whose child would outlive it, and the file for the child's id."""
        pid = self.folder / "pid"
        self.program("gpu_nn", f"#!/bin/bash\n[[ $1 != --list_content ]] || exit 0\nsleep 600 & echo $! >{pid}.part\n"
                               f"mv {pid}.part {pid}\nwait\n")  # fmt: skip
        return pid

    def assert_gone(self, pid):
        number = int(pid.read_text())
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for _ in range(1000):
                if "State:\tZ" in Path(f"/proc/{number}/status").read_text():
                    return
                time.sleep(0.01)
            self.fail("a child process of a program is still running")

    def test_what_takes_too_long_is_ended_with_all_it_started(self):
        pid = self.left_over()
        with mock.patch.object(run, "TIME_LIMIT", 5):
            status, printed, _ = self.run_main("--quick")
        self.assertEqual(status, 1)
        self.assertIn("  failed: took too long; see ", printed)
        self.assert_gone(pid)

    def test_an_ended_run_takes_its_programs_along_and_leaves_what_it_knew(self):
        pid = self.left_over()
        command = [sys.executable, "-B", HERE / "run.py", "--quick", "--build", self.folder, "--out", self.folder / "out"]
        job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not pid.exists():
            self.assertIsNone(job.poll())
            time.sleep(0.01)
        while len(self.kept()["stages"]) < len(PROGRAMS) - 1:
            self.assertIsNone(job.poll())
            time.sleep(0.01)
        job.send_signal(signal.SIGTERM)
        self.assertEqual(job.wait(60), 128 + signal.SIGTERM)
        self.assert_gone(pid)
        self.assertEqual(self.kept()["unfinished"], ["gpu_nn"])


class Sanitizers(unittest.TestCase):
    def test_every_case_they_look_at_exists(self):
        """Boost silently ignores a filter that matches nothing if another one matches."""
        programs = {"gpu_device": cases_of(DEVICE), "gpu_nn": cases_of(NN)}
        for tool, (_options, program, filters) in run.SANITIZERS.items():
            for wanted in filters:
                self.assertTrue(fnmatch.filter(programs[program], wanted), f"{tool}: {wanted}")


if __name__ == "__main__":
    DEVICE, NN = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
