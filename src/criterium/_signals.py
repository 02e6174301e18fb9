"""SIGINT and SIGTERM end the command with all its processes, in one line and within seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType

_SECONDS = 3.0
"""So long may cleaning up take."""


class Ended(KeyboardInterrupt):
    """A signal asks the command to end."""


class _State:
    number = 0  # of the signal that came
    hint = ""
    said = False


def heed() -> None:
    """From here on, be ended by SIGINT and SIGTERM, also where a shell had its children ignore the first."""
    if os.name == "posix":
        # The main thread may be in the middle of what knows of no signals: another one looks after it.
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=_insist, args=(reading,), daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def exit_code() -> int:
    """Return what the command ends with after a signal, as shells count: 130 after Ctrl-C."""
    return 128 + (_State.number or signal.SIGINT)


def came() -> bool:
    """Return whether a signal came: whatever goes wrong after it is no news."""
    return bool(_State.number)


def remember(hint: str) -> str:
    """Keep, and return, what to say should the command be interrupted."""
    _State.hint = hint
    return hint


def say_interrupted(hint: str = "") -> None:
    """Say it once, in one line, with how to go on."""
    if not (_State.said and came()):
        _State.said = True
        with suppress(OSError):  # nobody listens
            line = f"interrupted{hint or _State.hint}\n"
            if came() or sys.stderr is None:  # the stream may be in the middle of something
                os.write(2, line.encode("utf-8", "backslashreplace"))
            else:
                sys.stderr.write(line)
                sys.stderr.flush()


def _end(number: int, frame: FrameType | None) -> None:
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)  # once is enough
    _State.number = number
    raise Ended


def _insist(reading: int) -> None:
    number = 0
    while number not in (signal.SIGINT, signal.SIGTERM):
        number = (os.read(reading, 1) or b"\0")[0]
    _State.number = number
    time.sleep(_SECONDS)
    say_interrupted()
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(exit_code())
