"""Runs every shell line in the documents at the scale of a smoke test, or only checks it if it would build or
install.

    run_shell_lines.py ROOT BUILD

The lines of a document run in order, in a new folder that looks like a checkout of ROOT with BUILD as its build/release, by a
user whose ~/my-python is a little Python code. A line without a rule here is an error, so that none is
untested.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Options that make the programs quick, replacing or following those of the line.
SMOKE = {
    "prepare_corpus": ["--vocab-size", "400"],
    "train": ["--steps", "3", "--batch-size", "2"],
    "generate": ["--tokens", "5"],
}
READERS_OWN = {"train_demo_sm_quad"}  # the line that docs/adding-an-activation.md adds
READ = {"--input", "--held-out-input", "--tokenizer", "--from", "--checkpoint"}  # options that name existing files
OTHERS = {"lm_eval", "wandb", "trackio", "pip", "tensorboard"}  # programs that are not lnfree's
SCRIPTS = {"examples/reproduce.sh", "examples/reproduce/live.py", "tests/run.sh", "tests/bare_machine.sh", "tests/package/debian_package.sh", "benchmarks/run.sh",
           "benchmarks/gpu/run.sh", "benchmarks/compile_time.py", "tests/check_format.sh"}


class Fault(Exception):
    pass


class Document:
    """A document's shell lines, and the folder in which they run."""

    def __init__(self, root, build, name, folder):
        self.root, self.build, self.name, self.folder = root, build, name, folder
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = os.environ | {"HOME": str(folder / "home"), "PATH": path, "OMP_WAIT_POLICY": "passive"}
        for entry in root.iterdir():
            if entry.name not in ("build", "out", ".git"):
                (folder / entry.name).symlink_to(entry)
        (folder / "build").mkdir()
        (folder / "build" / "release").symlink_to(build)
        code = folder / "home" / "my-python"
        code.mkdir(parents=True)
        for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"), key=lambda file: file.stat().st_size)[:80]:
            (code / file.name).write_bytes(file.read_bytes())

    def run(self, command):
        result = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            errors="replace",
        )
        print(f"{self.name}: {command}\n{result.stdout}{result.stderr}", flush=True)
        if result.returncode != 0:
            raise Fault(f"exit status {result.returncode} of: {command}")
        return result.stdout

    def line(self, line):
        if line.startswith("export "):
            name, value = line.removeprefix("export ").split("=", 1)
            self.environment[name] = self.run(f"printf %s {value}")
            return
        for command in line.split(" && "):
            self.command(command)

    def command(self, command):
        words = shlex.split(command.removesuffix(" &"))
        if re.fullmatch(r"\w+=\S*", words[0]):
            del words[0]  # a variable for only this command
        program = words[0]
        name = Path(program).name
        if program.startswith("build/release/bin/"):
            self.built_program(command, name)
        elif program in ("mpirun", "srun"):
            at = next(i for i, word in enumerate(words) if word.startswith("build/release/bin/"))
            self.expect(words[at].endswith("_mpi"), "a program of several processes")
            if (self.build / "bin" / Path(words[at]).name).is_file():
                help_text = self.run(f"{words[at]} --help")
                for option in words[at + 1 :]:
                    self.expect(not option.startswith("--") or option in help_text, f"{option} in its --help")
        elif program == "examples/install_dependencies.sh":
            groups = re.findall(r"^  \[(\w+)\]=", (self.root / program).read_text(), re.MULTILINE)
            self.expect(set(words[1:]) <= set(groups), f"groups among {groups}")
        elif program in SCRIPTS:
            self.expect_options(program, words[1:])
        elif program.endswith("/bin/python") and words[1].startswith("examples/"):
            self.expect_options(f"python3 {words[1]}", words[2:])
        elif program == "examples/annotate_python.py":
            self.run(command)
        elif name in OTHERS or words[:3] == ["python3", "-m", "venv"]:
            pass
        elif program == "cmake" and words[1] == "--preset":
            presets = json.loads((self.root / "CMakePresets.json").read_text())["configurePresets"]
            self.expect(words[2] in [each["name"] for each in presets], "a preset of CMakePresets.json")
            self.expect_variables(words)
        elif program == "cmake" and words[1] == "--build" and words[2] == "build/release":
            if not READERS_OWN & set(words):
                self.run(f"{command} -- -n > build/plan")
        elif program == "cmake" and words[1] == "-S" and words[2] == ".":
            self.expect_variables(words)
            (self.folder / words[words.index("-B") + 1]).symlink_to(self.build)
        elif program == "g++":
            self.run(command.replace("-O2", "-O1"))
        elif program == "cmake" and words[1] == "-S":
            self.run(f"{command} -D CMAKE_CXX_FLAGS_RELEASE=-O1")
        elif program in ("cmake", "cmake/single_header.py", "cpack", "build/quickstart", "build/consumer/my_program"):
            self.run(command)
        elif program == "ctest":
            self.expect("Total Tests: 0" not in self.run(f"{command} --show-only"), "tests that it selects")
        elif command.startswith("sudo apt-get install ./"):  # done by tests/package/debian_package.sh
            self.expect((self.folder / words[-1]).is_file(), "the file that it installs")
        elif command.startswith(("conan create cmake/packaging/conan", "vcpkg install lnfree")):
            self.expect(all((self.root / word).is_dir() for word in re.findall(r"cmake/packaging/\w+", command)), "its folder")
        else:
            raise Fault(f"no rule for: {command}")

    def built_program(self, command, name):
        if name in READERS_OWN or name.startswith("test_"):
            return
        self.expect((self.build / "bin" / name).is_file(), "a program that is built by default")
        arguments = shlex.split(command)[1:]
        read = [value for option, value in zip(arguments, arguments[1:]) if option in READ and value[0] != "~"]
        if not all((self.folder / path).exists() for path in read):  # what the reader has
            self.expect_options(f"build/release/bin/{name}", arguments)
            return
        smoke = SMOKE.get("train" if name.startswith("train_") else name, [])
        words = command.split()
        for option, value in zip(smoke[::2], smoke[1::2]):
            if option in words:
                words[words.index(option) + 1] = value
            else:
                words += [option, value]
        self.run(" ".join(words))

    def expect_options(self, program, arguments):
        help_text = self.run(f"{program} --help")
        for option in arguments:
            self.expect(not option.startswith("--") or option.split("=")[0] in help_text, f"{option} in its --help")

    def expect_variables(self, words):
        known = (self.build / "CMakeCache.txt").read_text()
        for definition in re.findall(r"-D (\w+)=", " ".join(words)):
            self.expect(f"\n{definition}:" in known, f"the variable {definition}")

    def expect(self, holds, what):
        if not holds:
            raise Fault(f"it needs {what}")


def main():
    root, build = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    faults = lines = 0
    for path in [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]:
        name = str(path.relative_to(root))
        with tempfile.TemporaryDirectory(prefix="lnfree-test-") as folder:
            document = None
            for block in BLOCK.findall(path.read_text()):
                document = document or Document(root, build, name, Path(folder))
                for line in re.sub(r"\\\n\s*", "", block).splitlines():
                    line = re.sub(r"(^|\s+)# .*", "", line).strip()
                    if not line:
                        continue
                    lines += 1
                    try:
                        document.line(line)
                    except Fault as fault:
                        print(f"run_shell_lines.py: {name}: {line}: {fault}", file=sys.stderr)
                        faults += 1
    print(f"{lines} lines, {faults} faults")
    return 1 if faults or lines == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
