"""Telling systemd how far we are (sd_notify), when it wants to know."""

import contextlib
import os
import socket


def tell_service_manager(state: str) -> None:
    """Send the state, such as READY=1, where NOTIFY_SOCKET says; else do nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # "@" stands for the abstract namespace's leading NUL.
    name = "\0" + address[1:] if address.startswith("@") else address
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        sender.connect(name)
        sender.send(state.encode())
