"""What takes seconds to make is made once a run, by whichever worker asks first, and read by all of them."""

import fcntl
import hashlib
import json
import os
import shutil

import pytest


def run_folder(tmp_path_factory):
    """Return the temporary folder of the whole run, which all workers share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


class MadeOnce:
    """Folders of one run by name; they are read, and `check` sees whether some test wrote into one."""

    def __init__(self, root):
        self.root, self.used = root, set()

    def folder(self, name, make):
        """Return the folder of this name, filled by make(folder) unless another test or worker has done so."""
        folder, record = self.root / name, self.root / f"{name}.json"
        with (self.root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not record.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                record.write_text(json.dumps(digests(folder)))
        self.used.add(name)
        return folder

    def check(self):
        """Fail if a folder is not as it was made."""
        for name in sorted(self.used):
            if digests(self.root / name) != json.loads((self.root / f"{name}.json").read_text()):
                pytest.fail(f"a test wrote into the shared folder {name!r}; let it work on a copy")


def digests(folder):
    """Return the SHA-256 of every file in a folder, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
