"""Files of a run folder: JSON that is written atomically, and locks."""

import fcntl
import json
import os
import re


class ReproduceError(Exception):
    """A one-sentence error message for the user."""


def name_of(path):
    """A path as text for a report or JSON: bytes that are not UTF-8 and control characters become \\xHH, as
    prepare_corpus writes them."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def write_text(path, text):
    """Writes under a temporary name and renames, so that the file is never incomplete."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path, value):
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path):
    """The file's JSON, or None when there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ReproduceError(
            f"{path} is not valid JSON ({error}); remove it to rebuild it."
        ) from error


def read_settings(root):
    """The settings of a root folder, or None if it is not one. Folders of earlier versions have no device and
    no ranks."""
    settings = read_json(root / "settings.json")
    return settings if settings is None else {"device": "cpu", "ranks": 1} | settings


def lock(path):
    """Locks `path` until this process and every program it started have ended; None if another process holds
    the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    os.set_inheritable(file.fileno(), True)
    return file
