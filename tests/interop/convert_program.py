"""Shared by the tests of the program convert: runs it and the lnfree program for comparison."""

import json
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path


class ConvertTest(unittest.TestCase):
    """Tests in a temporary folder. The programs come from the command line, see main()."""

    convert: Path
    models: Path

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def run_convert(self, source, target, *options):
        arguments = [self.convert, "--from", source, "--to", target, *options]
        return subprocess.run([str(a) for a in arguments], capture_output=True, text=True)

    def converted(self, source, name, *options):
        """The model in `source`, converted into a folder or file of that name."""
        target = self.folder / name
        run = self.run_convert(source, target, *options)
        self.assertEqual(run.returncode, 0, run.stderr)
        return target

    def refused(self, source, *says, options=(), name="refused"):
        """convert must refuse with one sentence that contains the words, and leave nothing behind."""
        before = sorted(self.folder.rglob("*"))
        run = self.run_convert(source, self.folder / name, *options)
        self.assertEqual(run.returncode, 1, run.stdout + run.stderr)
        self.assertEqual(run.stderr.count("\n"), 1, run.stderr)
        self.assertEqual(run.stdout, "")
        for words in says:
            self.assertIn(words, run.stderr)
        self.assertEqual(sorted(self.folder.rglob("*")), before)

    def written(self, case):
        """A checkpoint of that case, with random numbers."""
        folder = self.folder / f"case_{case}"
        subprocess.run([self.models, "write", case, folder], check=True)
        return folder

    def logits(self, folder, tokens):
        """lnfree's logits, by prefix of the tokens."""
        run = subprocess.run([self.models, "logits", folder, *map(str, tokens)], capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stderr)
        return json.loads(run.stdout)


def raw_tensors(folder):
    """name -> (dtype, shape, bytes) of all .safetensors files in a folder."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = (8 + length + at for at in entry["data_offsets"])
            assert name not in tensors, name
            tensors[name] = (entry["dtype"], tuple(entry["shape"]), data[begin:end])
    return tensors


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def main():
    """Runs the tests of the script: SCRIPT CONVERT INTEROP_MODELS [unittest's options]."""
    ConvertTest.convert, ConvertTest.models = (Path(argument).resolve() for argument in sys.argv[1:3])
    unittest.main(module="__main__", argv=[sys.argv[0], *sys.argv[3:]])
