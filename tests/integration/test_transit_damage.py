"""Damage in transit: a proxy that alters, drops, repeats and exchanges what goes by. None of it is ever committed."""

import contextlib
import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from agent.errors import AgentError, AwsUnavailable, SnapshotInvalid
from agent.operations import compression
from tests.integration import transit_damage as damages
from tests.integration.s3_proxy import Answer, Forward, Proxy, Request
from tests.integration.transit_damage import Damage
from tests.integration.transit_place import Place, made_snapshot
from tests.sandbox import s3_server
from tests.sandbox.certificates import Authority, Certificate
from tests.sandbox.processes import Processes
from tests.sandbox.s3_server import S3Server
from tests.setup import debian

pytestmark = pytest.mark.integration
CONTENT, OLDER = made_snapshot(), made_snapshot()
FIRST, LAST = 1, 3
OLD_HOUR, HOUR = 1, 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    if not (debian.cache() / "tools/versitygw").exists():
        pytest.skip(
            "versitygw is not in the cache, and moto checks no sums; `make tools` builds it where there is a Go"
        )
    folder = tmp_path_factory.mktemp("s3")
    with Processes(folder / "logs") as processes:
        yield s3_server.start(processes, folder)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Authority(tmp_path_factory.mktemp("pki")).issue("proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def environment(server: S3Server, certificate: Certificate) -> Iterator[None]:
    """By TLS, as to AWS: there the signature does not cover the bytes of parts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (server.environment | {"AWS_CA_BUNDLE": str(certificate.ca_cert)}).items():
            patch.setenv(name, value)
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        yield


@contextlib.contextmanager
def place_in(folder: Path, server: S3Server, certificate: Certificate) -> Iterator[Place]:
    with Proxy(server.endpoint_url, certificate) as proxy:
        yield Place(folder, server, proxy, f"run-{secrets.token_hex(6)}")


@pytest.fixture
def place(environment: None, server: S3Server, certificate: Certificate, tmp_path: Path) -> Iterator[Place]:
    """With nothing in the store."""
    with place_in(tmp_path, server, certificate) as made:
        yield made


@pytest.fixture(scope="module")
def filled(
    environment: None, server: S3Server, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """With an older and a newer snapshot in the store, both right."""
    with place_in(tmp_path_factory.mktemp("filled"), server, certificate) as made:
        made.snapshot(OLD_HOUR, OLDER)
        made.snapshot(HOUR, CONTENT)
        yield made


def straight(request: Request, forward: Forward) -> Answer:
    return forward(request)


def on_part(number: int, change: Callable[..., Any]) -> Callable[[str], Damage]:
    return lambda upstream: damages.only_part(number, damages.requests("part", change, upstream))


def on_list(change: damages.Bytes) -> Callable[[str], Damage]:
    return lambda upstream: damages.requests("complete", damages.body(change), upstream)


def on_manifest(change: damages.Bytes, *, with_checksum: bool) -> Callable[[str], Damage]:
    return lambda upstream: damages.requests("manifest", damages.body(change, with_checksum=with_checksum), upstream)


BIT, CUT = damages.flipped(0.5), lambda whole: whole[:-1000]
UPLOADS: dict[str, Callable[[str], Damage]] = {
    "a bit of the first part": on_part(FIRST, damages.body(BIT)),
    "a bit of a middle part": on_part(2, damages.body(BIT)),
    "a bit of the last part": on_part(LAST, damages.body(BIT)),
    "a bit of a part whose checksum is made anew": on_part(2, damages.body(BIT, with_checksum=True)),
    "a part is cut": on_part(2, damages.body(CUT)),
    "a part is cut and its checksum made anew": on_part(LAST, damages.body(CUT, with_checksum=True)),
    "a part is dropped": lambda upstream: damages.only_part(2, damages.invents("part", damages.taken)),
    "the last part is dropped": lambda upstream: damages.only_part(LAST, damages.invents("part", damages.taken)),
    "a part comes twice, in another's place too": lambda upstream: damages.Mixing(1, 2, upstream, swaps=False),
    "two parts change places": lambda upstream: damages.Mixing(1, 2, upstream, swaps=True),
    "the list lacks the last part": on_list(damages.last_part_left_out),
    "the list exchanges two parts": on_list(damages.numbers_exchanged),
    "the list names a part twice": on_list(damages.first_part_twice),
    "the completion is dropped": lambda upstream: damages.invents("complete", damages.completed),
    "a bit of the manifest": on_manifest(BIT, with_checksum=False),
    "the manifest is cut": on_manifest(CUT, with_checksum=False),
    "the manifest is dropped": lambda upstream: damages.invents("manifest", damages.taken),
}


@pytest.mark.parametrize("how", UPLOADS)
def test_a_snapshot_that_is_damaged_on_its_way_is_kept_until_it_arrives_whole(place: Place, how: str) -> None:
    place.proxy.between = UPLOADS[how](place.proxy.upstream)
    output = place.snapshot(HOUR, CONTENT)
    assert not output["stored"], output
    assert output["why_not_stored"]["hint"], output
    assert place.unfinished() == []
    with pytest.raises(AgentError):  # a second try on the same way fares no better
        place.ship()
    assert (place.kept(), place.unfinished()) == ([place.identifier(HOUR)], [])
    place.proxy.between = straight
    assert place.listed() == []
    assert place.ship()["shipped"] == [place.identifier(HOUR)]
    assert [backup.is_good for backup in place.listed()] == [True]
    assert (place.kept(), place.unfinished()) == ([], [])


@pytest.mark.parametrize("how", ["cut", "another sha256", "no level fresh"])
def test_a_manifest_that_is_altered_with_its_checksum_is_not_good_and_the_snapshot_stays(
    place: Place, how: str
) -> None:
    """As on a store that checks no sums: there only reading back tells, and no node can take it back."""
    change = {
        "cut": CUT,
        "another sha256": other_sha256,
        "no level fresh": lambda whole: whole.replace(b"fresh", b"drill"),
    }
    altered = on_manifest(change[how], with_checksum=True)(place.proxy.upstream)
    place.proxy.between = damages.times(1, altered, lambda request: request.call == "manifest")
    assert not place.snapshot(HOUR, CONTENT)["stored"]
    assert not any(backup.is_good for backup in place.listed(unreadable=how == "cut"))
    with pytest.raises(SnapshotInvalid):
        place.ship()
    assert place.kept() == [place.identifier(HOUR)]


def other_sha256(manifest: bytes) -> bytes:
    return re.sub(rb'(?<="raw_sha256": ")[0-9a-f]{64}', b"0" * 64, manifest)


@pytest.mark.parametrize("call", ["part", "complete", "manifest"])
def test_a_call_that_arrives_twice_is_stored_once(place: Place, call: str) -> None:
    def twice(request: Request, forward: Forward) -> Answer:
        first = forward(request)
        if request.call == call:
            forward(request)
        return first

    place.proxy.between = twice
    assert place.snapshot(HOUR, CONTENT)["stored"]
    assert [backup.is_good for backup in place.listed()] == [True]
    assert (place.kept(), place.unfinished()) == ([], [])


def data(change: damages.Bytes) -> Damage:
    return damages.answers("get", damages.content(change), where="/data/")


READS: dict[str, Damage] = {
    "a bit at its beginning": data(damages.flipped(0.001)),
    "a bit in its middle": data(damages.flipped(0.5)),
    "its last bit": data(damages.flipped(1.0)),
    "cut": data(CUT),
    "cut to nothing": data(lambda whole: b""),
    "twice": data(lambda whole: whole + whole),
    "a stretch of it twice": data(lambda whole: whole[:9000] + whole[5000:]),
    "two stretches exchanged": data(lambda whole: whole[:5000] + whole[9000:13000] + whole[5000:9000] + whole[13000:]),
    "more behind it": data(lambda whole: whole + b"\0"),
    "another snapshot": data(lambda whole: b"".join(compression.compressed([OLDER]))),
}


def is_data(request: Request) -> bool:
    return request.call == "get" and "/data/" in request.target


@pytest.fixture
def stored(filled: Place) -> Iterator[Place]:
    """The two snapshots, of which nothing is known but what was when they were taken."""
    yield filled
    filled.proxy.between = straight
    filled.forget_records()


@pytest.mark.parametrize("how", READS)
def test_what_is_damaged_on_its_way_back_is_neither_verified_nor_downloaded(
    stored: Place, tmp_path: Path, how: str
) -> None:
    stored.proxy.between = READS[how]
    with pytest.raises(SnapshotInvalid):
        stored.download(HOUR, tmp_path / "etcd.db")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SnapshotInvalid):
        stored.verify(HOUR)
    assert [backup.is_good for backup in stored.listed()] == [False, True]


def test_what_is_damaged_once_is_read_again_and_found_right(stored: Place, tmp_path: Path) -> None:
    stored.proxy.between = damages.times(1, data(BIT), is_data)
    assert stored.verify(HOUR)["passed"] == 1
    stored.download(HOUR, tmp_path / "etcd.db")
    assert (tmp_path / "etcd.db").read_bytes() == CONTENT
    assert all(backup.is_good for backup in stored.listed())


def test_an_object_that_breaks_off_says_nothing_of_the_snapshot(stored: Place, tmp_path: Path) -> None:
    stored.proxy.between = damages.answers("get", damages.breaks_off, where="/data/")
    for read in (lambda: stored.verify(HOUR), lambda: stored.download(HOUR, tmp_path / "etcd.db")):
        with pytest.raises(AwsUnavailable):
            read()
    assert list(tmp_path.iterdir()) == []
    assert all(backup.is_good for backup in stored.listed())


MANIFESTS: dict[str, Callable[[bytes], damages.Bytes]] = {
    "an older one": lambda older: lambda whole: older,
    "cut": lambda older: CUT,
    "another sha256": lambda older: other_sha256,
    "the older one's data": lambda older: lambda whole: whole.replace(data_key_in(whole), data_key_in(older)),
}


def data_key_in(manifest: bytes) -> bytes:
    key: str = json.loads(manifest)["data"]["key"]
    return key.encode()


@pytest.mark.parametrize("how", MANIFESTS)
def test_a_manifest_that_comes_back_as_another_gives_out_no_file(stored: Place, tmp_path: Path, how: str) -> None:
    older = stored.objects()[stored.manifest_key(OLD_HOUR)]
    where = stored.identifier(HOUR)
    stored.proxy.between = damages.answers("get", damages.content(MANIFESTS[how](older)), where=f"{where}.json")
    for read in (lambda: stored.verify(HOUR), lambda: stored.download(HOUR, tmp_path / "etcd.db")):
        with pytest.raises(SnapshotInvalid):
            read()
    assert list(tmp_path.iterdir()) == []
