"""Damage that somebody put the right checksum behind: what of it etcd's own tools see, by version, and what not."""

import contextlib
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.adapters import etcdutl
from agent.adapters.etcdutl import SnapshotStatus
from agent.errors import AgentError, SnapshotInvalid
from tests.damage import kinds
from tests.damage.place import Place, pack
from tests.setup import etcd

MOST_TOOL_S = 20.0  # pages that point at each other can keep a tool busy for ever
UNSEEN, OTHER_REVISION, SEEN, CRASHED = "not seen", "another revision", "damaged", "crashed, or had no end"


@dataclass
class Resealed:
    """What each tool said of the same files; what create took; what verify or download took, which must be nothing."""

    cases: int = 0
    said: dict[str, Counter[str]] = field(default_factory=dict)
    unseen_by_kind: Counter[tuple[str, str]] = field(default_factory=Counter)
    created: int = 0
    accepted: list[tuple[str, str, int]] = field(default_factory=list)


def run(place: Place, count: int, seed: int, tools: Mapping[str, Path]) -> Resealed:
    """`tools` are folders by name. Create goes by the tool of the place, the other two by the manifest's checksum."""
    found = Resealed(said={name: Counter() for name in tools})
    with _bounded_tools(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resealed.db"
        for number in range(count):
            rng = random.Random(f"resealed {seed} {number}")
            kind, raw = kinds.resealed(rng, place.raw, place.older)
            path.write_bytes(raw)
            for name, of in tools.items():
                said = _says(SnapshotStatus(str(of)), path, place.right.revision)
                found.said[name][said] += 1
                if said == UNSEEN:
                    found.unseen_by_kind[name, kind] += 1
            found.created += place.created(raw) == ""
            place.forget_offered()
            with place.stored(pack(raw), told=True):
                for way, caught in (("verify", place.verified()), ("download", place.downloaded())):
                    if not caught:
                        found.accepted.append((kind, way, number))
            found.cases += 1
    return found


def tools_here() -> dict[str, Path]:
    """The tool that reads snapshots of each version that is here."""
    return {
        f"{'etcdctl' if version == '3.4' else 'etcdutl'} {version}": etcd.tools_folder(version)
        for version in etcd.VERSIONS
        if version in etcd.present()
    }


def _says(tool: SnapshotStatus, path: Path, revision: int) -> str:
    try:
        status = tool.status(path)
    except SnapshotInvalid as error:
        return CRASHED if any(word in error.message for word in ("panic", "fatal error", "SIG")) else SEEN
    except AgentError:
        return CRASHED
    return UNSEEN if status.revision == revision else OTHER_REVISION


@contextlib.contextmanager
def _bounded_tools() -> Iterator[None]:
    usual_s = etcdutl.STATUS_TIMEOUT_S
    etcdutl.STATUS_TIMEOUT_S = MOST_TOOL_S
    try:
        yield
    finally:
        etcdutl.STATUS_TIMEOUT_S = usual_s
