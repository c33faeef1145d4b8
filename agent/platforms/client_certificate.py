"""Which certificate a client of this etcd can use, with the reason; and what a certificate says that it is for."""

import posixpath
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.platforms.finding import CERT, KEY, Draft, Value
from agent.platforms.reading import Reader, Unreadable

EXTENDED_KEY_USAGE = bytes.fromhex("0603551d25")
CLIENT_AUTH = bytes.fromhex("06082b06010505070302")
ANY_USAGE = bytes.fromhex("0604551d2500")
SEQUENCE, OCTET_STRING, OBJECT_ID, EXTENSIONS = 0x30, 0x04, 0x06, 0xA3


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, and what it was made for."""

    cert: str
    key: str
    made_for: str


def choose(draft: Draft, pairs: Sequence[Pair]) -> bool:
    """Takes the first pair that is there, whole, and usable by a client. Returns whether there is one.

    A pair that is there and can not be used is a trouble only when no other one can.
    """
    reader = draft.reader
    reasons: list[tuple[str, str]] = []
    for number, pair in enumerate(pairs):
        try:
            if not (reader.is_there(pair.cert) and reader.is_there(pair.key)):
                continue
            problem = _unusable(reader, pair)
        except Unreadable as error:
            reasons.append((error.reason, error.hint))
            continue
        if problem:
            reasons.append((problem, "make a client certificate by the same CA; set etcd.cert and etcd.key to it"))
            continue
        why = pair.made_for if number == 0 else f"{pair.made_for}, the first of {len(pairs)} that can be used"
        draft.values[CERT] = Value(reader.path(pair.cert), f"{reader.path(pair.cert)} ({why})")
        draft.values[KEY] = Value(reader.path(pair.key), f"{reader.path(pair.key)} ({why})")
        return True
    for reason, hint in reasons:
        draft.trouble(reason, hint)
    return False


def folder_pairs(folder: str) -> list[Pair]:
    """What people call a client's certificate, in a folder that holds etcd's own."""
    names = [
        ("client.crt", "client.key"), ("client.pem", "client-key.pem"), ("etcd-client.crt", "etcd-client.key"),
        ("etcd-client.pem", "etcd-client-key.pem"), ("healthcheck-client.crt", "healthcheck-client.key"),
    ]  # fmt: skip
    return [Pair(posixpath.join(folder, cert), posixpath.join(folder, key), "a client's") for cert, key in names]


def usable_by_client(der: bytes) -> bool:
    """Whether an X.509 certificate may be used by a TLS client: it says so, or it limits its use to nothing.

    Raises ValueError for what is no certificate.
    """
    for extension in _extensions(der):
        if extension.startswith(EXTENDED_KEY_USAGE):
            tag, value, _ = _element(extension, len(EXTENDED_KEY_USAGE))
            if tag != OCTET_STRING:  # `critical` stands before it
                tag, value, _ = _element(extension, len(EXTENDED_KEY_USAGE) + 3)
            _, usages, _ = _element(value, 0)
            return any(usage in (CLIENT_AUTH, ANY_USAGE) for usage in _children(usages))
    return True


def _unusable(reader: Reader, pair: Pair) -> str:
    """Why a client can not use this pair; empty when it can. Raises Unreadable."""
    text = reader.text(pair.cert) or ""
    if reason := reader.may_read(pair.key):
        return reason
    begin = text.find("-----BEGIN CERTIFICATE-----")
    end = text.find("-----END CERTIFICATE-----", begin)
    try:
        der = ssl.PEM_cert_to_DER_cert(text[begin : end + len("-----END CERTIFICATE-----")])
        usable = usable_by_client(der)
    except (ValueError, IndexError):
        return f"{reader.path(pair.cert)} is no certificate in PEM form"
    return "" if usable else f"{reader.path(pair.cert)} may be used by servers alone: its key usage has no clientAuth"


def _extensions(der: bytes) -> Iterator[bytes]:
    tag, certificate, _ = _element(der, 0)
    if tag != SEQUENCE:
        raise ValueError("no certificate")
    _, signed_part, _ = _element(certificate, 0)
    at = 0
    while at < len(signed_part):
        tag, value, at = _element(signed_part, at)
        if tag == EXTENSIONS:
            _, listed, _ = _element(value, 0)
            for child in _children(listed):
                yield _element(child, 0)[1]


def _children(value: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(value):
        _, _, end = _element(value, at)
        yield value[at:end]
        at = end


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """One DER element: its tag, its content, and where the next one begins. Raises ValueError."""
    if at + 2 > len(data):
        raise ValueError("cut off")
    tag, length, begin = data[at], data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(data[begin : begin + count], "big")
        begin += count
    if begin + length > len(data):
        raise ValueError("cut off")
    return tag, data[begin : begin + length], begin + length
