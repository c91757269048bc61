"""Trainers on file systems that are full, read-only or layered, and with mounted folders.

Each test mounts what it needs in its own mount namespace. If the system allows none, they are skipped.
"""

import json
import os
import random
import subprocess
import sys
import time
import unittest
from pathlib import Path

from trainer_program import NORMED, PROGRAM, TrainerTest, content, metrics, read_weights

INSIDE = "LNFREE_TEST_MOUNTS"  # set in the namespace
UNSHARE = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--map-root-user"])


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)


class FileSystems(TrainerTest):
    STEPS = 30

    def mounted(self, *arguments):
        """Mounts, for as long as the test runs."""
        result = mount(*arguments)
        if result.returncode != 0:
            self.skipTest(result.stderr.strip())
        self.addCleanup(subprocess.run, ["umount", "--lazy", str(arguments[-1])], check=True)

    def file_system(self, size):
        """A separate file system of that size."""
        folder = self.folder / "mounted"
        folder.mkdir()
        self.mounted("-t", "tmpfs", "-o", f"size={size}", "none", folder)
        return folder

    def layered(self, lower):
        """A writable overlay of `lower`, like a container's view of its image."""
        own = self.file_system("64m")
        for name in ("upper", "work", "view"):
            (own / name).mkdir()
        options = f"lowerdir={lower},upperdir={own / 'upper'},workdir={own / 'work'},redirect_dir=off"
        self.mounted("-t", "overlay", "-o", options, "overlay", own / "view")
        return own / "view"

    def arguments(self, run, *more):
        return self.training(run, self.STEPS, "--log-every", 1, "--checkpoint-every", 1, *more)

    def begin(self, run):
        """A run that was stopped after a few steps."""
        program = self.start(*self.arguments(run))
        program.terminate()
        program.stdout.read()
        self.assertEqual(program.wait(60), 143, program.stderr.read())

    def kill_until_finished(self, run):
        """Kills the run at random moments until it has finished between two."""
        seed = random.randrange(2**32)
        moments = random.Random(seed)
        for kills in range(1000):
            command = [str(x) for x in [PROGRAM, *self.arguments(run, "--resume")]]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as program:
                if kills < 12:
                    time.sleep(moments.uniform(0.01, 0.15))
                    program.kill()
                errors = program.stderr.read()
            self.assertEqual(errors, "", f"seed {seed}, after {kills} kills")
            if program.returncode == 0:
                return

    def test_a_run_of_a_lower_layer(self):
        whole, image = self.folder / "whole", self.folder / "image"
        self.succeed(*self.arguments(whole))
        image.mkdir()
        self.begin(image / "run")
        before = content(image)
        view = self.layered(image)
        with self.assertRaises(OSError, msg="this overlay renames folders of lower layers"):
            os.rename(view / "run" / "checkpoint", view / "elsewhere")
        self.kill_until_finished(view / "run")
        self.assert_same_run(whole, view / "run")
        self.assertEqual(sorted(path.name for path in (view / "run").iterdir()), ["checkpoint", "metrics.jsonl"])
        self.assertEqual(content(image), before)

    def test_a_mounted_checkpoint(self):
        """Every save has to copy its files into the mounted folder."""
        whole, run, elsewhere = (self.folder / name for name in ("whole", "run", "elsewhere"))
        self.succeed(*self.arguments(whole))
        self.begin(run)
        elsewhere.mkdir()
        for path in (run / "checkpoint").iterdir():
            (elsewhere / path.name).write_bytes(path.read_bytes())
        self.mounted("--bind", elsewhere, run / "checkpoint")
        self.kill_until_finished(run)
        self.assert_same_run(whole, run)
        self.assertEqual(sorted(path.name for path in run.iterdir()), ["checkpoint", "metrics.jsonl"])
        self.assertEqual(json.loads((elsewhere / "trainer.json").read_text())["step"], self.STEPS)

    def test_a_full_file_system(self):
        own = self.file_system("20m")
        run = own / "run"
        self.begin(run)
        (own / "others").write_bytes(b"\0" * (os.statvfs(own).f_bavail * 4096 - 6_000_000))
        checkpoint = content(run / "checkpoint")
        result = self.call(*self.arguments(run, "--resume"))
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertIn("No space left on device", result.stderr)
        self.assertEqual(content(run / "checkpoint"), checkpoint)
        self.assertEqual(sorted(path.name for path in run.iterdir()), ["checkpoint", "metrics.jsonl"])
        (own / "others").unlink()
        self.succeed(*self.arguments(run, "--resume"))
        self.assertEqual(len({line["step"] for line in metrics(run)}), len(metrics(run)))
        read_weights(run / "checkpoint" / "model.safetensors")

    def test_a_read_only_file_system(self):
        own = self.file_system("64m")
        self.begin(own / "run")
        self.assertEqual(mount("-o", "remount,bind,ro", own).stderr, "")
        for out, more in ((own / "new", []), (own / "run", ["--resume"])):
            self.refuse(*self.arguments(out, *more), says=[str(out), "Read-only file system"])


def enter_namespace():
    """Restarts this program in a mount namespace, if possible."""
    try:
        possible = subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        possible = False
    if possible:
        os.environ[INSIDE] = "1"
        command = [*UNSHARE, sys.executable, "-B", Path(__file__).resolve(), PROGRAM, NORMED, *sys.argv[1:]]
        os.execvp(command[0], [str(x) for x in command])


if __name__ == "__main__":
    if INSIDE not in os.environ:
        enter_namespace()
        print("no mount namespace can be had here")
        sys.exit(77)  # skipped
    unittest.main()
