"""Verify every result in a folder by the `verify.py` that lies in the first; print a JSON object of each one's file."""

import json
import sys
from pathlib import Path

folders = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir())
sys.path.insert(0, str(folders[0]))

import verify  # noqa: E402 - the copy that lies in a result

found = {folder.name: [vars(file) for file in verify.verify(folder).files] for folder in folders}
sys.stdout.write(json.dumps(found))
