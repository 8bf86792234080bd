"""What a run has seen, for the documentation."""

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_record(file: Path, program: str, arguments: Sequence[str] | None, values: Mapping[str, Any]) -> None:
    """
    :param file: where to write it, as JSON.
    :param program: how it is called.
    :param arguments: of the command line; those of this process by default.
    :param values: what was seen.
    """
    words = [word for word in (sys.argv[1:] if arguments is None else arguments) if word != str(file)]
    record = {
        "command": " ".join([program, shlex.join(word for word in words if word != "--json")]).strip(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "processors": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
        },
        **values,
    }
    file.write_text(json.dumps(record, indent=1) + "\n")
