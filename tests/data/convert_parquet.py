"""Tests examples/interop/parquet_to_jsonl.py: convert_parquet.py SCRIPT ENVIRONMENT"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from peers import environment

TEXTS = ["é one\n" * 30, None, "nul \0 \u2028 " * 9, "", "x" * 100_000] * 700


def check(script):
    import pyarrow
    import pyarrow.parquet

    def run(*arguments, status=0):
        result = subprocess.run([sys.executable, "-B", script, *map(str, arguments)], capture_output=True, text=True)
        assert result.returncode == status, f"{arguments}: status {result.returncode}, {result.stderr}"
        assert result.stderr.count("\n") == (1 if status else result.stderr.count("\n")), result.stderr
        return result

    with tempfile.TemporaryDirectory(prefix="lnfree-test-") as folder:
        content, code, broken = (Path(folder) / name for name in ("content.parquet", "code.parquet", "broken.parquet"))
        pyarrow.parquet.write_table(pyarrow.table({"size": list(range(len(TEXTS))), "content": TEXTS}), content)
        pyarrow.parquet.write_table(pyarrow.table({"code": ["a", "b"]}), code)
        broken.write_bytes(content.read_bytes()[:-100])
        result = run(content)
        assert [json.loads(line)["content"] for line in result.stdout.split("\n")[:-1]] == [t for t in TEXTS if t is not None]
        assert "700 rows without a text" in result.stderr
        assert run("--column", "code", code, code).stdout.count("\n") == 4
        for arguments, words in (([code], "no column content or text, only code"), ([broken], "broken.parquet cannot be read"),
                                 (["--column", "size", content], "holds int64"), ([Path(folder) / "none"], "none cannot be read")):
            assert words in run(*arguments, status=1).stderr, words


if __name__ == "__main__":
    if len(sys.argv) == 2:  # only in the environment
        check(sys.argv[1])
    else:
        sys.exit(subprocess.run([environment(Path(sys.argv[2])), "-B", __file__, sys.argv[1]]).returncode)
