"""Starts and stops the programs of a job."""

import os
import shutil
import signal
import subprocess
import sys
import time

from files import ReproduceError

POLL_SECONDS = 0.2
STOP_SECONDS = 60.0


class Interrupted(Exception):
    """A signal asked the job to stop; args[0] is its number."""


class Stop:
    """Remembers the first signal that asks to stop. Programs run in their own sessions and get signals only
    from this process."""

    def __init__(self):
        self.signal = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number, _frame):
        self.signal = self.signal or number

    def check(self):
        if self.signal:
            raise Interrupted(self.signal)


class ProgramRefused(ReproduceError):
    """A program ended with an error message."""


class Program:
    """A program in its own session, writing to a log file; it is asked to stop if this process dies."""

    def __init__(self, command, log, environment=None, has_ranks=False):
        """`has_ranks` means that mpirun starts the program; mpirun passes SIGUSR1 on and leaves time to
        save."""
        self.command, self.log = [str(word) for word in command], log
        self.stop_signal = signal.SIGUSR1 if has_ranks else signal.SIGTERM
        with open(log, "ab") as output:
            output.write(os.fsencode(f"$ {' '.join(self.command)}\n"))
            output.flush()
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "USR1" if has_ranks else "TERM", "--", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | (environment or {}),
                start_new_session=True,
                close_fds=False,
            )

    def poll(self):
        return self.process.poll()

    def ask_to_stop(self):
        self._signal(self.stop_signal)

    def kill(self):
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def last_words(self):
        """The program's error message without its name in front; None if there is none."""
        line = self.last_lines(1).removeprefix("  | ")
        start = f"{os.path.basename(self.command[0])}: "
        return line.removeprefix(start) if line.startswith(start) else None

    def last_lines(self, count=12):
        lines = self.log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
        return "\n".join("  | " + line for line in lines[-count:])


def on_terminal():
    """Whether lines may be redrawn in place."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def run_to_end(command, log, stop, what):
    """Runs one program and waits for it, showing its last line on a terminal. Raises ReproduceError if it
    fails: ProgramRefused if the program gave an error message."""
    program = Program(command, log)
    while program.poll() is None:
        if on_terminal():
            print(
                f"\r\x1b[K{program.last_lines(1)[:shutil.get_terminal_size().columns - 1]}\r",
                end="",
                flush=True,
            )
        if stop.signal:
            program.ask_to_stop()
            try:
                program.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                program.kill()
            stop.check()
        time.sleep(POLL_SECONDS)
    if on_terminal():
        print("\x1b[K", end="")
    sentence = program.last_words()
    if program.poll() == 1 and sentence:
        raise ProgramRefused(f"{what}: {sentence}")
    if program.poll() != 0:
        raise ReproduceError(
            f"{what} failed (exit status {program.poll()}); the end of {log}:\n{program.last_lines()}"
        )
