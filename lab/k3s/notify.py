"""The readiness message of systemd's ``Type=notify`` (sd_notify(3))."""

import os
import socket
from collections.abc import MutableMapping


class Notifier:
    """Takes NOTIFY_SOCKET out of the environment, so that no child speaks for us (K3s does the same)."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self.address = environment.pop("NOTIFY_SOCKET", "")

    def send(self, state: str) -> None:
        if not self.address:
            return
        path = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), path)

    def ready(self) -> None:
        self.send("READY=1\n")
