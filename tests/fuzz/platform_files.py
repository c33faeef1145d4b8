"""Files of the four platforms with lines changed, moved, cut or garbled: found, told as troubles, or no platform."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import yaml
from hypothesis import strategies as st

from agent import settings
from agent.config import Paths, PlatformChoice
from agent.errors import ConfigError
from agent.platforms import detection, fingerprints, plain_yaml, resolution
from agent.platforms.plain_yaml import NotUnderstood, Opaque, Scalar
from tests.fuzz import odd
from tests.fuzz.requests import clear
from tests.fuzz.target import Check, Target, in_memory
from tests.sandbox import plain_trees, platform_trees
from tests.sandbox.platform_trees import Tree

LAYOUTS: Mapping[str, Callable[[Tree], None]] = {
    "kubeadm": platform_trees.kubeadm,
    "rke2": lambda tree: platform_trees.rke2(tree, config=CONFIG, drop_ins=[CONFIG]),
    "k3s": lambda tree: platform_trees.k3s(tree, config=CONFIG, drop_ins=[CONFIG]),
    "debian": plain_trees.debian,
    "rhel": plain_trees.rhel,
    "upstream": plain_trees.upstream,
    "kubespray": plain_trees.kubespray,
}
CONFIG = "data-dir: /var/lib/rancher/x\ntls-san:\n  - a\n  - 'b c'\nwrite-kubeconfig: /etc/x.yaml\n"
ODD_LINES = (
    "", "#", "---", "...", "- x", "  - x", "\t- x", "a: b: c", "a: [", "a: {b: c", "a: &x b", "a: *x", "a: !!str b",
    "a: |", "a: >-", "<<: *x", "? a", "'", '"', "a: 'b", 'a: "\\u0000"', 'a: "\\x41"', "- - - - x", "a:\n  b:\n c: d",
    "data-dir: /etc", "datastore-endpoint: postgres://u:p@h", "- --data-dir", "- --config-file=/x", "- $(A)",
    "EnvironmentFile=/etc/shadow", "EnvironmentFile=-/dev/zero", "ExecStart=", "ExecStart=/bin/sh -c \"exec etcd",
    "ExecStart=@/usr/bin/etcd x", "[Service]", "[", "Environment=\"A=b", "Environment=A=%h", "ETCD_DATA_DIR=$X",
    "ETCD_DATA_DIR='/a b'", "ETCD_LISTEN_CLIENT_URLS=http://[::1:2379", "listen-client-urls: https://[::1]:99999999",
    "listen-client-urls: HTTPS://x", "- --listen-client-urls=https://0.0.0.0:2379,unix://x", "\\", "a\\",
)  # fmt: skip


@functools.cache
def trees() -> Mapping[str, Mapping[str, bytes]]:
    """The files that each installer leaves, by layout and path."""
    found = {}
    for layout, make in LAYOUTS.items():
        with in_memory() as folder:
            make(Tree(folder))
            found[layout] = {
                str(path.relative_to(folder)): path.read_bytes()
                for path in sorted(folder.rglob("*"))
                if path.is_file() and not path.is_symlink()
            } | {
                str(path.relative_to(folder)): b"link " + str(path.readlink()).encode()
                for path in sorted(folder.rglob("*"))
                if path.is_symlink()
            }
    return found


@dataclass(frozen=True)
class Node:
    """The files of a node, of one layout or with those of another one, some of them changed."""

    files: Mapping[str, bytes]
    choice: PlatformChoice


@st.composite
def texts(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with up to three lines changed, then hurt as bytes."""
    lines = content.decode(errors="replace").split("\n")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        how = draw(st.integers(0, 6))
        if how == 0:
            del lines[at]
        elif how == 1:
            lines.insert(at, lines[draw(st.integers(0, len(lines) - 1))])
        elif how == 2:
            lines.insert(at, draw(st.sampled_from(ODD_LINES)))
        elif how == 3:
            lines[at] = draw(st.sampled_from([" ", "  ", "\t", "    ", "- "])) + lines[at]
        elif how == 4:
            lines[at] = lines[at].lstrip()
        else:
            lines[at] = draw(odd.texts_near(lines[at]))
        lines = lines or [""]
    return draw(odd.hurt("\n".join(lines).encode("utf-8", "surrogatepass")))


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    """Files of one layout, now and then with those of another, one to three of them changed or gone."""
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    files = dict(trees()[layout])
    if draw(st.integers(0, 9)) == 0:
        files = dict(trees()[draw(st.sampled_from(sorted(LAYOUTS)))]) | files
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(files)))
        if files[name].startswith(b"link "):
            files[name] = b"link " + draw(st.sampled_from([b"/nowhere", b"/dev/null", b".", files[name][5:]]))
        elif draw(st.integers(0, 9)) == 0:
            files[name] = draw(st.sampled_from([b"pipe", b"folder", b"x" * 70_000, b""]))
        else:
            files[name] = draw(texts(files[name]))
    return Node(files, draw(st.sampled_from(("auto", "auto", *get_args(PlatformChoice)))))


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Check]:
    paths = Paths(folder)

    def check(case: Node) -> None:
        try:
            for name, content in case.files.items():
                _put(folder / name, content)
            found = detection.look(folder, case.choice)
            for finding in found.findings:
                assert finding.reason
                for value in finding.values.values():
                    assert "\n" not in value.text, value
                    value.text.encode()
            _require_resolved(paths, case.choice)
            for content in case.files.values():
                _require_the_same_as_yaml(content)
        finally:
            clear(folder)

    with mock.patch.object(fingerprints, "TOKEN_ROUNDS", 1):
        yield check


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if content == b"folder":
        path.mkdir()
    elif content == b"pipe":
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    elif content.startswith(b"link "):
        path.symlink_to(content[5:].decode())
    else:
        path.write_bytes(content)


def _require_resolved(paths: Paths, choice: PlatformChoice) -> None:
    loaded = settings.load(paths, {}, [f"platform={choice}"])
    try:
        resolved = resolution.resolve(loaded, paths)
    except ConfigError as error:
        assert error.hint
        return
    resolution.unusable_files(resolved.config)
    for trouble in resolved.troubles:
        assert trouble.message
        assert trouble.hint
    for digest in fingerprints.of(resolved, paths.root).values():
        assert len(digest) == 64


def _require_the_same_as_yaml(content: bytes) -> None:
    """What the small reader understands, a whole YAML reader understands alike."""
    try:
        text = content.decode()
        mine = plain_yaml.parse(text)
        theirs = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - it makes nothing but texts, lists and dicts
    except (UnicodeDecodeError, NotUnderstood, yaml.YAMLError):
        return
    _require_like(mine, "" if theirs is None else theirs, text)


def _require_like(mine: plain_yaml.Tree, theirs: Any, text: str) -> None:
    if isinstance(mine, Opaque) or (mine == {} and theirs == ""):
        return
    if isinstance(mine, Scalar):
        assert mine.text == theirs, f"{mine} is {theirs!r} in {text!r}"
    elif isinstance(mine, dict):
        assert isinstance(theirs, dict)
        assert list(mine) == list(theirs), f"{list(mine)} are {list(theirs)} in {text!r}"
        for key, value in mine.items():
            _require_like(value, theirs[key], text)
    else:
        assert isinstance(theirs, Sequence)
        assert len(mine) == len(theirs), text
        for one, other in zip(mine, theirs, strict=True):
            _require_like(one, other, text)


TARGETS = (Target("platform files", "files of kubeadm, RKE2, k3s and plain etcd", 6, nodes(), opened),)
