"""What is made once and kept: a directory for each thing, complete or not there at all.

A thing's name ends with a hash of what it is made of and by, so that a change of the recipe makes it anew. It is
made aside and renamed, under a lock that its maker's children hold too: a second run waits, also for the remains of
a killed one. What nobody has used for a week is removed.
"""
import fcntl
import hashlib
import os
import shutil
import sys
import time

UNUSED_DAYS = 7
HERE = os.path.dirname(os.path.realpath(__file__))


class Cache:
    def __init__(self):
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        self.place = os.path.join(base, "podrun-vm")
        os.makedirs(self.place, exist_ok=True)
        self.locks = []  # shared, until this process ends

    def get(self, label, inputs, make):
        """The directory of a thing, made by `make(path)` when it is missing."""
        path = os.path.join(self.place, f"{label}-{hashlib.sha256(repr(inputs).encode()).hexdigest()[:12]}")
        lock = os.open(path + ".lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not os.path.isdir(path):
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another run may have made it while this one waited.
            if not os.path.isdir(path):
                os.set_inheritable(lock, True)
                self._make(path, make)
                os.set_inheritable(lock, False)
            fcntl.flock(lock, fcntl.LOCK_SH)
        os.utime(path)
        self.locks.append(lock)
        return path

    def _make(self, path, make):
        self._prune()
        shutil.rmtree(path + ".new", ignore_errors=True)
        os.mkdir(path + ".new")
        begin, name = time.monotonic(), os.path.basename(path)
        print(f"tests/vm: making {name}", file=sys.stderr, flush=True)
        make(path + ".new")
        os.rename(path + ".new", path)
        print(f"tests/vm: {name} took {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)

    def _prune(self):
        for entry in os.scandir(self.place):
            old = time.time() - entry.stat().st_mtime > UNUSED_DAYS * 86400
            if not entry.is_dir() or not old:
                continue
            lock = os.open(entry.path.removesuffix(".new") + ".lock", os.O_CREAT | os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path, ignore_errors=True)
            except BlockingIOError:
                pass  # in use
            finally:
                os.close(lock)


def texts(*names):
    """The recipe's own files, as inputs of what they make."""
    found = []
    for name in names:
        with open(os.path.join(HERE, name)) as file:
            found.append(file.read())
    return found
