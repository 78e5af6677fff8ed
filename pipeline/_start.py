"""Keeps `python -m pipeline` from running modules of the current folder, such as a token.py or numpy.py there."""

from __future__ import annotations

import os
import sys


def leave_out_current_folder(package: str) -> None:
    """Takes the current folder, which `python -m` puts first, out of the places in which modules are looked for.

    It does so only while `python -m` looks for a program of this package: whoever imports the package keeps all places.
    What Python loads before that, such as pkgutil, it cannot prevent.
    """
    if sys.argv[:1] != ["-m"] or sys.flags.safe_path:  # "-m" stands there as long as the program is looked for
        return
    module = ""
    for place, word in enumerate(sys.orig_argv):
        if word.startswith("-") and not word.startswith("--") and "m" in word:
            module = word.partition("m")[2] or "".join(sys.orig_argv[place + 1 : place + 2])
            break
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        return
    if module.split(".")[0] == package and sys.path[:1] == [here]:
        del sys.path[0]
