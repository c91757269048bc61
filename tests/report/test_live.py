"""The live page of growing run folders, as a browser receives it."""

import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPRODUCE = HERE.parent.parent / "examples" / "reproduce"
sys.path[:0] = [str(HERE), str(REPRODUCE)]

import live
import synthetic
from files import ReproduceError


def fetch(url, host=None):
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return answer.read().decode()


def lines_of(step, **changes):
    train = {"kind": "train", "step": step, "loss": 8 - 0.1 * step, "learning_rate": 1e-3, "tokens_per_second": 512.0}
    entropy = {"kind": "entropy", "step": step, "head_entropy": [[3.0, 2.0 - 0.1 * step]] * 4, "nonfinite_rows": 0}
    return [entropy, train | changes]


class LiveTest(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = Path(place.name) / "my run"
        (self.folder / "checkpoint").mkdir(parents=True)
        course = {"steps": 10, "batch_size": 2, "accumulate": 1, "context": 128}
        (self.folder / "checkpoint" / "trainer.json").write_text(json.dumps({"step": 0, "steps": 10, "course": course}))

    def serve(self, folder=None, **arguments):
        board = live.Board(folder or self.folder, **arguments)
        server = live.Server(board, 0)
        self.addCleanup(server.__exit__)
        return server

    def write(self, *lines, end=""):
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines) + end)

    def content(self, server):
        """The page's content for the present files."""
        server.board.due = 0.0
        return fetch(server.url + "content")

    def test_a_run_that_grows(self):
        server = self.serve()
        self.assertIn("No run has started", fetch(server.url))
        self.write(*lines_of(0), *lines_of(1))
        text = self.content(server)
        for expected in ("my run", "training", "2/10", "7.900", "512", "0:04", "<svg", "data:image/png;base64,", "step 1<"):
            self.assertIn(expected, text)
        # An incomplete line is not read.
        self.write(end='{"kind": "train", "step": 2, "loss": 7.6')
        self.assertIn("2/10", self.content(server))
        self.write(end='25, "tokens_per_second": 256.0}\nnot JSON\n')
        text = self.content(server)
        self.assertIn("3/10", text)
        self.assertIn("7.625", text)
        self.write({"kind": "eval", "step": 3, "eval_loss": 3.0, "perplexity": 20.125})
        text = self.content(server)
        self.assertIn("20.12", text)
        self.assertEqual(text.count("<circle"), 1)

    def test_a_resumed_run_is_read_anew(self):
        server = self.serve()
        self.write(*lines_of(0), *lines_of(8))
        self.assertIn("9/10", self.content(server))
        (self.folder / "metrics.jsonl").write_text("")
        self.write(*lines_of(0), *lines_of(1), *lines_of(2))
        self.assertIn("3/10", self.content(server))

    def test_states(self):
        server = self.serve()
        self.write(*lines_of(0), *lines_of(9, loss=None))
        state = self.folder / "checkpoint" / "trainer.json"
        for change, expected in (
            (lambda: None, "<td>training<"),
            (lambda: setattr(live, "SILENT_SECONDS", -1), "<td>nothing new for 0:0"),
            (lambda: state.write_text(state.read_text().replace('"step": 0', '"step": 10')), "<td>done<"),
            (lambda: self.write({"kind": "diverged", "step": 9, "loss": None, "tensor": "wte"}), "<td>diverged<"),
        ):
            change()
            self.assertIn(expected, self.content(server))
        live.SILENT_SECONDS = 120

    def test_values_that_are_no_numbers(self):
        server = self.serve()
        self.write({"kind": "train", "step": 0, "loss": None, "tokens_per_second": None},
                   {"kind": "entropy", "step": 0, "head_entropy": [[None, 1.0]] * 2},
                   {"kind": "entropy", "step": 1, "head_entropy": "damaged"},
                   {"kind": "entropy", "step": 2, "head_entropy": [[1.0]]})  # fmt: skip
        (self.folder / "run.json").write_text("{ damaged")
        self.assertIn("1/10", self.content(server))

    def test_heat_map_pixels(self):
        """Gray, the two ends of the scale, and the middle, in a PNG."""
        image = live.png([[live.color_of(value, 4.0) for value in (None, 0.0, 4.0, 2.0)]])
        data = image[image.index(b"IDAT") + 4 : image.index(b"IEND") - 8]
        self.assertEqual(zlib.decompress(data), b"\0" + bytes([207] * 3 + [68, 1, 84] + [253, 231, 37] + [33, 144, 141]))

    def test_a_folder_of_experiments(self):
        """Planned runs that have not begun are also shown, and included in the time left."""
        root = self.folder.parent / "root"
        synthetic.write_folder(root, configs=("sm_g", "sm_r"))
        server = self.serve(root)
        text = self.content(server)
        self.assertIn("2 of 2 runs done", text)
        self.assertIn("SM + R, seed 3", text)
        self.assertIn("30.12", text)
        specs = [synthetic.spec_of(config) for config in ("sm_g", "sm_r", "sm_ln_g")]
        planned = {root / "runs" / spec.name: spec for spec in specs}
        (root / "runs" / specs[0].name / "evaluation.json").unlink()
        server = self.serve(root, planned=planned, workers=1)
        text = self.content(server)
        self.assertIn("1 of 3 runs done, about", text)
        self.assertRegex(text, r"SM \+ LN \+ G, seed 3</td><td>waiting<")
        # One that follows from the others' results.
        later = synthetic.spec_of("sm_g", rate_factor=8)
        server.board.add({root / "runs" / later.name: later} | planned)
        text = self.content(server)
        self.assertIn("1 of 4 runs done, about", text)
        self.assertRegex(text, r"SM \+ G, 8 x rate, seed 3</td><td>waiting<")

    def test_this_machine_alone(self):
        server = self.serve()
        self.assertEqual(server.socket.getsockname()[0], "127.0.0.1")
        listening = f"{server.server_port:04X}"
        found = [line.split()[1] for name in ("tcp", "tcp6") if Path(f"/proc/net/{name}").exists()
                 for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:] if line.split()[3] == "0A"]  # fmt: skip
        self.assertEqual([place for place in found if place.endswith(":" + listening)], [f"0100007F:{listening}"])
        for path, host, status in (
            ("metrics.jsonl", None, 404),
            ("../../etc/passwd", None, 404),
            ("", "example.org", 403),
            ("content", f"example.org:{server.server_port}", 403),
        ):
            with self.assertRaises(urllib.error.HTTPError) as caught:
                fetch(server.url + path, host)
            self.assertEqual(caught.exception.code, status)
            caught.exception.close()
        self.assertIn("<h1>", fetch(server.url, f"localhost:{server.server_port}"))

    def test_names_are_text(self):
        self.folder = self.folder.rename(self.folder.with_name("<script>alert(1)&"))
        self.write(*lines_of(0))
        text = fetch(self.serve().url)
        self.assertNotIn("<script>alert", text)
        self.assertIn("&lt;script&gt;alert(1)&amp;", text)
        # Nothing is loaded from elsewhere.
        self.assertNotRegex(text, r"(src|href)=\"(?!data:)")
        self.assertNotIn("https://", text)

    def test_the_program(self):
        self.write(*lines_of(0), *lines_of(1))
        command = [sys.executable, "-B", REPRODUCE / "live.py", self.folder, "--port", "0"]
        program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(program.communicate)
        self.addCleanup(program.kill)
        url = re.match(r"http://127\.0\.0\.1:\d+/", program.stdout.readline())[0]
        self.assertIn("2/10", fetch(url))
        self.write(*lines_of(2))
        deadline = time.monotonic() + 600
        while "3/10" not in fetch(url + "content"):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        program.send_signal(signal.SIGINT)
        self.assertEqual(program.wait(300), 130)

    def test_refusals(self):
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        for folder, port, told in (
            (self.folder, taken.getsockname()[1], "cannot be used"),
            (self.folder, 70000, "cannot be used"),
            (self.folder / "nowhere", 0, "is not a folder"),
        ):
            command = [sys.executable, "-B", REPRODUCE / "live.py", folder, "--port", str(port)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
            self.assertEqual(done.returncode, 1)
            self.assertIn(told, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)
        with self.assertRaises(ReproduceError):
            live.Server(live.Board(self.folder), taken.getsockname()[1])


if __name__ == "__main__":
    unittest.main()
