"""
An interpreter for the Python blocks of one page, in a process of its own: they share one namespace, and neither modules
nor reactors with the tests or with other pages.

A function of a block whose name begins with ``test_`` is called behind it, as pytest would do.

Run as a program, it reads a block from each line of standard input and writes its result as a line, both in JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docs_pages import Block


class Interpreter:
    """
    :param directory: where the files of the page are.
    :param environment: its environment variables.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        # The tests' own directory is for its imports; the page's comes first, as that of a program does.
        paths = os.pathsep.join((str(directory), str(Path(__file__).parent)))
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=directory,
            env={**environment, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def run(self, block: Block, source: str) -> None:
        """
        :param block: where it comes from.
        :param source: what to run.
        :raises AssertionError: with the traceback, where it raises.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        question = {"source": source, "page": str(block.page), "line": block.line}
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"{block.place}: the interpreter ended"
        failure = json.loads(answer)
        assert failure is None, f"{block.place}: {failure}"

    def close(self) -> None:
        """End it."""
        with self._process:
            self._process.communicate()


def _main() -> None:
    # What the blocks print is not for the one who asked.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    namespace: dict[str, Any] = {"__name__": "page"}
    for line in sys.stdin:
        question = json.loads(line)
        failure = None
        try:
            # Empty lines before it, so that a traceback names the line of the page.
            source = "\n" * (question["line"] - 1) + question["source"]
            before = set(namespace)
            exec(compile(source, question["page"], "exec"), namespace)
            for name in [name for name in namespace if name.startswith("test_") and name not in before]:
                namespace[name]()
        except BaseException:
            failure = traceback.format_exc()
        answers.write(json.dumps(failure) + "\n")
        answers.flush()


if __name__ == "__main__":
    _main()
