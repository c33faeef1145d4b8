"""A steady writer: one put every 10 ms to a member, with the time each one took, in a process of its own."""

import base64
import json
import sys
import time
from pathlib import Path

from tests.sandbox.certificates import Certificate
from tests.sandbox.etcd_cluster import EtcdMember, call

INTERVAL_S = 0.01
KEYS = 100


def main() -> None:
    """Arguments: a JSON object that describes the member, and the file for `<start> <seconds>` lines."""
    told = json.loads(sys.argv[1])
    certificate = Certificate(**{name: Path(value) for name, value in told.pop("certificate").items()})
    member = EtcdMember(folder=Path("/"), certificate=certificate, **told)
    value = base64.b64encode(b"x" * 2048).decode()
    with Path(sys.argv[2]).open("a", buffering=1) as target, member.connection() as connection:
        due = time.monotonic()
        for number in range(10**9):
            key = base64.b64encode(f"/bench/{number % KEYS}".encode()).decode()
            started = time.monotonic()
            call(connection, "/v3/kv/put", {"key": key, "value": value})
            target.write(f"{started:.6f} {time.monotonic() - started:.6f}\n")
            due = max(due + INTERVAL_S, started)
            time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
