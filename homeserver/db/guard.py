"""Run a program that must not outlive us: `python guard.py OPTIONS -- PROGRAM …`.

A process of its own, run by path and with nothing but the standard library, so that it
starts fast and needs no import path. It drops privileges, arranges that PROGRAM gets
SIGINT (PostgreSQL's fast, clean shutdown) when the process that started the guard ends
in whatever way, and becomes PROGRAM.

Where the kernel can tell a child of its parent's death (Linux) the guard is replaced by
PROGRAM. Elsewhere it stays as a watcher: it holds the reading end of a pipe whose
writing end lives only in the parent.

The laws of the Linux way: the death signal is cleared by a change of user, so it is set
after; the parent may have died before it was set, so the parent is checked after that;
it fires when the *thread* that forked ends, so only the main thread may start a guard.
"""

import argparse
import contextlib
import ctypes
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

PR_SET_PDEATHSIG: Final = 1
HELD_FD: Final = 9
HELD: Final = f"/proc/self/fd/{HELD_FD}"
COULD_NOT_START: Final = 71  # EX_OSERR


def hold(directory: str) -> None:
    """Open a directory with our rights and leave it open, as `HELD`, for the program.

    The new user may not be able to walk there.
    """
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    os.dup2(opened, HELD_FD, inheritable=True)


def become(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Give up root for good."""
    os.setgroups(list(groups))
    os.setgid(gid)
    os.setuid(uid)


def follow_parent(parent: int) -> None:
    """Ask Linux for SIGINT at the parent's death; leave when it is dead already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit(COULD_NOT_START)


def watch(program: Sequence[str], lifeline: int) -> int:
    """Start the program, pass signals on, and interrupt it when the lifeline ends.

    Tells the program's pid on standard output. Returns its exit status, 128 + N when
    signal N ended it.
    """
    os.set_inheritable(lifeline, False)  # noqa: FBT003 - the signature of os
    # A dead child must wake the select below.
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pid = os.posix_spawn(program[0], list(program), os.environ, setpgroup=0)
    sys.stdout.write(f"{pid}\n")
    sys.stdout.flush()

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, pass_on)
    sources = [read_end, lifeline]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if lifeline in ready:
            sources.remove(lifeline)
            pass_on(signal.SIGINT, None)
        if read_end in ready:
            os.read(read_end, 4096)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def become_program(program: Sequence[str]) -> NoReturn:
    """Leave the process to the program."""
    os.execv(program[0], list(program))  # noqa: S606 - no shell is the point


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says; returns only when it has watched."""
    parser = argparse.ArgumentParser(prog="guard")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--hold", metavar="DIRECTORY")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--groups", default="")
    parser.add_argument("--lifeline", type=int)
    dashes = list(arguments).index("--")
    options = parser.parse_args(arguments[:dashes])
    program = list(arguments[dashes + 1 :])
    # An interrupt must end us or reach the program; Python's handler would only note
    # it, and the note is lost when the process becomes the program.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.chdir("/")
    os.umask(0o077)
    if options.hold is not None:
        hold(options.hold)
    if options.uid is not None:
        groups = [int(group) for group in options.groups.split(",") if group]
        become(options.uid, options.gid, groups)
    if options.lifeline is not None:
        return watch(program, options.lifeline)
    follow_parent(options.parent)
    become_program(program)


def main() -> int:
    """Entry point of the script."""
    try:
        return run(sys.argv[1:])
    except OSError as error:
        sys.stderr.write(f"{Path(__file__).name}: {error}\n")
        return COULD_NOT_START


if __name__ == "__main__":
    sys.exit(main())
