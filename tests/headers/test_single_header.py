"""Compiles the README's example against only the file made by cmake/single_header.py, and runs it.

    test_single_header.py ROOT COMPILER EIGEN

If the processor has AVX, nothing else is on the include path; otherwise EIGEN is.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

root, compiler, eigen = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
OPTIONS = ["-std=c++20", "-fopenmp", "-fno-math-errno", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def make(file, *headers, status=0):
    result = subprocess.run(
        [sys.executable, root / "cmake/single_header.py", file, *headers], capture_output=True, text=True
    )
    assert result.returncode == status, result.stderr
    return file.read_text(encoding="utf-8") if status == 0 else result.stderr


def compile(*options, status=0):
    result = subprocess.run([compiler, *OPTIONS, *options], cwd=folder, capture_output=True, text=True)
    assert (result.returncode == 0) == (status == 0), result.stderr
    return result.stderr


with tempfile.TemporaryDirectory(prefix="lnfree-test-") as name:
    folder = Path(name)
    text = make(folder / "lnfree.hpp")
    assert text == make(folder / "again" / "lnfree.hpp"), "the same sources made two files"
    version = re.search(r'LNFREE_VERSION "(.+)"', (root / "include/lnfree/version.hpp").read_text())[1]
    assert text.startswith(f"// lnfree {version} "), text[:80]
    for line in (root / "LICENSE").read_text().split("\n"):
        assert f"\n// {line}".rstrip() + "\n" in text, f"the license lacks '{line}'"
    includes = set(re.findall(r"^\s*#\s*include\s*(.+)$", text, re.MULTILINE))
    foreign = {each for each in includes if not re.fullmatch(r"<(\w+|sys/\w+\.h|unistd\.h|omp\.h)>", each)}
    assert foreign == {"<Eigen/Core>"}, f"it includes {foreign}"
    assert text.count("\n// ---- ") == len(set(re.findall(r"^// ---- .*", text, re.MULTILINE))), "a header is there twice"

    # Other headers that can be requested, and some that cannot.
    assert "gradient_check(" in make(folder / "more.hpp", "lnfree/train/gradient_check.hpp")
    for header in ("lnfree/nothing.hpp", "lnfree/device/cuda/cuda.hpp", "vector"):
        assert f"no header {header}" in make(folder / "none.hpp", header, status=1)
        assert not (folder / "none.hpp").exists()

    quickstart = (root / "examples/quickstart.cpp").read_text()
    assert "#include <lnfree/model.hpp>" in quickstart
    (folder / "quickstart.cpp").write_text(quickstart.replace("<lnfree/model.hpp>", '"lnfree.hpp"'))
    compile("-march=native", "-dM", "-E", "-x", "c++", "/dev/null", "-o", "macros.txt")
    has_avx = "#define __AVX__ 1" in (folder / "macros.txt").read_text()
    path = [] if has_avx else ["-isystem", eigen]
    compile("-O1", "-march=native", *path, "quickstart.cpp", "-o", "quickstart")
    subprocess.run([sys.executable, "-B", root / "tests/docs/run_quickstart.py", folder / "quickstart"], check=True)
    if has_avx:
        compile("-mno-avx", "-fsyntax-only", "-isystem", eigen, "quickstart.cpp")
        assert "add Eigen 3.4, or for the Cpu alone compile for AVX" in compile(
            "-mno-avx", "-fsyntax-only", "quickstart.cpp", status=1
        )
