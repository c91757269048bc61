"""Runs a program with a new folder as its last argument, which is removed afterwards.

    in_temporary_folder.py PROGRAM [ARGUMENT...]
"""

import subprocess
import sys
import tempfile

with tempfile.TemporaryDirectory(prefix="lnfree-test-") as folder:
    sys.exit(subprocess.run([*sys.argv[1:], folder]).returncode)
