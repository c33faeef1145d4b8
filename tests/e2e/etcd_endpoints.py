"""Endpoints that are none, or not the one they seem to be: TLS servers with bad certificates, a load balancer."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

CHUNK_BYTES = 65536


@contextlib.contextmanager
def _serving(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose connections are each handled in a thread of their own."""
    ending = threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.settimeout(0.1)

        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                handle(connection)

        def take() -> None:
            while not ending.is_set():
                with contextlib.suppress(OSError):
                    threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            ending.set()
            thread.join()


@contextlib.contextmanager
def tls_server(cert: Path, key: Path) -> Iterator[int]:
    """Shakes hands with that certificate and says nothing more: the client ends it before, or waits in vain."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            while secured.recv(CHUNK_BYTES):
                pass

    with _serving(handle) as port:
        yield port


@contextlib.contextmanager
def plain_server() -> Iterator[int]:
    """Answers whatever comes in plain text."""

    def handle(connection: socket.socket) -> None:
        while connection.recv(CHUNK_BYTES):
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with _serving(handle) as port:
        yield port


@contextlib.contextmanager
def load_balancer(targets: Sequence[tuple[str, int]]) -> Iterator[int]:
    """Passes each connection on to the next one of the targets, the way a TCP load balancer does."""
    lock, turns = threading.Lock(), [0]

    def handle(connection: socket.socket) -> None:
        with lock:
            target = targets[turns[0] % len(targets)]
            turns[0] += 1
        with socket.create_connection(target, timeout=10) as upstream:
            upstream.settimeout(None)
            back = threading.Thread(target=_pump, args=(upstream, connection), daemon=True)
            back.start()
            _pump(connection, upstream)
            back.join()

    with _serving(handle) as port:
        yield port


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
