"""The environment in which lnfree's readers are compared with other programs."""

import subprocess
import venv

RELEASES = {"tokenizers": "0.22.1", "pyarrow": "26.0.1"}


def environment(folder):
    """The Python of an environment in that folder with those releases, installed from PyPI at the first
    call."""
    python = folder / "bin" / "python"
    wanted = "from importlib.metadata import version; "
    wanted += "; ".join(f"assert version({name!r}) == {release!r}" for name, release in RELEASES.items())
    if not python.exists() or subprocess.run([python, "-c", wanted], capture_output=True).returncode != 0:
        venv.create(folder, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "10", "--no-deps"]
        subprocess.run([*install, *(f"{name}=={release}" for name, release in RELEASES.items())], check=True)
    return python
