"""examples/annotate_python.py must label each byte as Python's tokenizer does, and skip what Python cannot
read."""

import json
import subprocess
import tempfile
import unittest
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "annotate_python.py"


class Annotating(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.out = self.folder / "annotated"

    def run_program(self, *paths):
        command = [PROGRAM, *paths, "--out", self.out]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.folder, timeout=600)

    def classes_of(self, content):
        """The classes of a file with these bytes."""
        (self.folder / "file.py").write_bytes(content)
        result = self.run_program("file.py")
        self.assertEqual(result.returncode, 0, result.stderr)
        [line] = self.out.read_text(encoding="utf-8").splitlines()
        entry = json.loads(line)
        self.assertEqual(entry["text"].encode(), content)
        self.assertEqual(len(entry["classes"]), len(content))
        return entry["classes"]

    def refuses(self, sentence, *paths):
        result = self.run_program(*paths)
        self.assertEqual(result.returncode, 1)
        self.assertIn(sentence, result.stderr.splitlines()[-1])
        self.assertTrue(result.stderr.splitlines()[-1].startswith("annotate_python.py: "))
        self.assertFalse(self.out.exists())
        self.assertEqual([path.name for path in self.folder.glob("*.part")], [])

    def test_every_class(self):
        self.assertEqual(self.classes_of(b"def f(x): x # one\n"), "kkkwioioowiwcccccw")
        self.assertEqual(self.classes_of(b"if None:\n  x = 'a' + 1.5e3\n"), "kkwkkkkowwwiwowssswownnnnnw")
        self.assertEqual(self.classes_of(b"a[1:] @= b\n"), "ionoowoowiw")

    def test_strings_and_comments_are_whole(self):
        self.assertEqual(self.classes_of(b'x = """if\n  (1)"""\n'), "iwow" + "s" * 14 + "w")
        self.assertEqual(self.classes_of(b"f'{x}!' # def\n"), "s" * 7 + "w" + "c" * 5 + "w")

    def test_bytes_of_other_letters(self):
        content = "größe = 'ä' # €\n".encode()
        self.assertEqual(self.classes_of(content), "i" * 7 + "wow" + "s" * 4 + "w" + "c" * 5 + "w")

    def test_odd_white_space(self):
        self.assertEqual(self.classes_of(b"\xef\xbb\xbfx = 1\r\ny = 2\r\n"), "wwwiwownwwiwownww")
        self.assertEqual(self.classes_of(b"x = \\\n\t1\n\x0cy\n"), "iwowwwwnwwiw")
        self.assertEqual(self.classes_of(b""), "")
        self.assertEqual(self.classes_of(b"if x:\n\ty"), "kkwiowwi")

    def test_what_python_cannot_read_is_left_out_and_counted(self):
        faults = {
            "a.py": (b"x = 1\nprint 'x'\n", "line 2"),
            "b.py": (b"x = (1,\n", "line 1"),
            "c.py": (b"x = '\xff'\n", "utf-8"),
            "d.py": (b"x = 1\0\n", ""),
            "e.py": (b"if x:\n  y\n z\n", "line 3"),
            "f.py": (b"x = 'abc\n", "line 1"),
            "g.py": (b"(" * 10000, ""),
            "h.py": (b"a ? b\n", "line 1"),
        }
        sources = self.folder / "sources"
        sources.mkdir()
        (sources / "good.py").write_text("x = 1\n")
        (sources / "notes.txt").write_text("no Python")
        for name, (content, _) in faults.items():
            (sources / name).write_bytes(content)
        result = self.run_program("sources")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(f"1 sources annotated, {len(faults)} left out", result.stdout)
        lines = result.stderr.splitlines()
        self.assertEqual(len(lines), len(faults), result.stderr)
        for line, (name, (_, words)) in zip(lines, faults.items()):
            self.assertTrue(line.startswith(f"left out: sources/{name}: "), line)
            self.assertIn(words, line)
        [entry] = map(json.loads, self.out.read_text().splitlines())
        self.assertEqual((entry["name"], entry["classes"]), ("sources/good.py", "iwownw"))

    def test_lines_of_json(self):
        lines = [
            {"content": "x\n"},
            {"text": "def f(): pass"},
            {"content": "def"},
            {"other": 1},
            [],
            {"content": "\ud800"},
        ]
        text = "\n".join(map(json.dumps, lines)) + "\n\nno JSON\n"
        (self.folder / "some.jsonl").write_text(text)
        result = self.run_program("some.jsonl")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("2 sources annotated, 5 left out", result.stdout)
        self.assertEqual(len(result.stderr.splitlines()), 5, result.stderr)
        names = [json.loads(line)["name"] for line in self.out.read_text().splitlines()]
        self.assertEqual(names, ["some.jsonl:1", "some.jsonl:2"])

    def test_nothing_to_annotate(self):
        (self.folder / "bad.py").write_text("def\n")
        (self.folder / "empty").mkdir()
        self.refuses("nowhere.py does not exist", "nowhere.py")
        self.refuses("none of 1 sources can be used", "bad.py")
        self.refuses("there is no Python source", "empty")
        (self.folder / "latin.jsonl").write_bytes(b'{"content": "\xff"}\n')
        self.refuses("latin.jsonl cannot be read", "latin.jsonl")


if __name__ == "__main__":
    unittest.main()
