"""An SSH server on loopback that runs nothing, and writes down what it is asked to run.

    python recording_sshd.py LOG KEY

Writes a client key to KEY, prints its port, and appends a line to LOG for each login and each command.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from pathlib import Path

import paramiko


class _Recorder(paramiko.ServerInterface):
    def __init__(self, log: Path) -> None:
        self.log = log

    def _write(self, line: str) -> None:
        with self.log.open("a") as file:
            file.write(line + "\n")

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._write(f"connected {username}")
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._write(f"exec {command.decode(errors='replace')}")
        threading.Thread(target=self._succeed, args=(channel,), daemon=True).start()
        return True

    def _succeed(self, channel: paramiko.Channel) -> None:
        time.sleep(0.2)  # paramiko confirms the request only after the check has returned
        channel.send_exit_status(0)
        channel.close()


def main() -> None:
    log, key = Path(sys.argv[1]), Path(sys.argv[2])
    log.touch()
    paramiko.RSAKey.generate(2048).write_private_key_file(str(key))
    host_key = paramiko.RSAKey.generate(2048)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            transport = paramiko.Transport(connection)
            transport.add_server_key(host_key)
            transport.start_server(server=_Recorder(log), event=threading.Event())


if __name__ == "__main__":
    main()
