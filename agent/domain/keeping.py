"""How long results are kept, by time that surely passed: no wall clock, which may jump, has a say. Pure."""

from collections.abc import Iterable

import msgspec


class Ledger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The seconds that surely passed since it was begun, and at which of them each file was first seen.

    Time is counted while the boot clock can tell it: across a reboot the time that the node was off is not known, so
    it does not count. What is in doubt is kept longer.
    """

    boot_id: str = ""
    boot_clock_s: float = 0.0
    counted_s: float = 0.0
    first_seen_s: dict[str, float] = {}
    schema: int = 1


def counted(ledger: Ledger, *, boot_id: str, boot_clock_s: float) -> Ledger:
    """The ledger at this moment."""
    passed_s = boot_clock_s - (ledger.boot_clock_s if ledger.boot_id == boot_id else 0.0)
    known = ledger.boot_id != ""
    return msgspec.structs.replace(
        ledger, boot_id=boot_id, boot_clock_s=boot_clock_s,
        counted_s=ledger.counted_s + (max(0.0, passed_s) if known else 0.0),
    )  # fmt: skip


def seen(ledger: Ledger, files: Iterable[str]) -> Ledger:
    """The ledger with exactly these files; a new one is of this moment."""
    first = {file: ledger.first_seen_s.get(file, ledger.counted_s) for file in files}
    return msgspec.structs.replace(ledger, first_seen_s=first)


def is_outlived(ledger: Ledger, file: str, *, kept_s: float) -> bool:
    """Whether it has been there for longer than results are kept."""
    return ledger.counted_s - ledger.first_seen_s.get(file, ledger.counted_s) >= kept_s


def decode(content: bytes) -> Ledger:
    """Reads a ledger; one that can not be read is begun anew, so that everything is kept longer."""
    try:
        return msgspec.json.decode(content, type=Ledger)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Ledger()


def encode(ledger: Ledger) -> bytes:
    """The bytes of its file."""
    return msgspec.json.encode(ledger) + b"\n"
