"""The notification protocol of systemd (sd_notify(3)): datagrams to $NOTIFY_SOCKET."""

import socket
from collections.abc import Mapping


class Notifier:
    """Tells systemd the service's state; does nothing outside systemd."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_interval_s = _watchdog_interval_s(environment)
        self._status = ""

    def ready(self, status: str) -> None:
        """The service is up."""
        self._status = status
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """One line of what the service is doing, for `systemctl status`; sent only when it changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Feeds the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self, status: str) -> None:
        """The service is about to end."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto(message.encode(), address)
            except OSError:
                # The manager went away or its queue is full; the next message carries the newest state anyway.
                self._status = ""


def _watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    """A third of what systemd allows, None without a watchdog."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 3e6 if microseconds.isdigit() and int(microseconds) > 0 else None
