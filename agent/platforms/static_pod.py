"""The manifest of a static pod: etcd's command line and where the container's folders lie on the node."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from agent.platforms.finding import Value
from agent.platforms.plain_yaml import NotUnderstood, Scalar, Tree, parse


@dataclass(frozen=True)
class StaticPod:
    """One container of a pod: its command line word by word, and its mounts as (folder inside, folder on the node)."""

    program: str
    words: tuple[Value, ...]
    mounts: tuple[tuple[str, str], ...]

    def on_node(self, path: str) -> str | None:
        """Where a path inside the container lies on the node; None where it is not of the node."""
        path = posixpath.normpath(path)
        for inside, outside in sorted(self.mounts, key=lambda mount: len(mount[0]), reverse=True):
            if path == inside or path.startswith(inside.rstrip("/") + "/"):
                return posixpath.normpath(posixpath.join(outside, posixpath.relpath(path, inside)))
        return None


def read(text: str, path: str, program: str) -> StaticPod:
    """The container that runs `program`. Raises NotUnderstood when the manifest has not exactly one."""
    spec = _child(parse(text), "spec")
    found = [
        pod
        for container in _items(spec, "containers")
        if (pod := _container(container, spec, path)) is not None and posixpath.basename(pod.program) == program
    ]
    if len(found) != 1:
        raise NotUnderstood(f"{len(found)} of its containers run {program}, not one")
    return found[0]


def _container(container: Tree, spec: Tree, path: str) -> StaticPod | None:
    line = [*_texts(container, "command"), *_texts(container, "args")]
    if not line:
        return None
    words = tuple(Value(scalar.text, path) for scalar in line[1:])
    volumes = dict(_volumes(spec))
    mounts = []
    for mount in _items(container, "volumeMounts"):
        inside, name = _text(mount, "mountPath"), _text(mount, "name")
        if inside and name in volumes and not _child(mount, "subPathExpr"):
            below = _text(mount, "subPath")
            mounts.append((posixpath.normpath(inside), posixpath.join(volumes[name], below)))
    return StaticPod(line[0].text, words, tuple(mounts))


def _volumes(spec: Tree) -> Iterator[tuple[str, str]]:
    for volume in _items(spec, "volumes"):
        host_path = _text(_child(volume, "hostPath"), "path")
        if host_path:
            yield _text(volume, "name"), host_path


def _child(tree: Tree, name: str) -> Tree:
    return tree.get(name, {}) if isinstance(tree, dict) else {}


def _items(tree: Tree, name: str) -> list[Tree]:
    found = _child(tree, name)
    return found if isinstance(found, list) else []


def _text(tree: Tree, name: str) -> str:
    found = _child(tree, name)
    return found.text if isinstance(found, Scalar) else ""


def _texts(tree: Tree, name: str) -> list[Scalar]:
    """A list of plain words. Raises NotUnderstood when the value is anything else."""
    found = _child(tree, name)
    if found == {}:
        return []
    if not isinstance(found, list):
        raise NotUnderstood(f"`{name}` is not written as one word a line")
    words = [item for item in found if isinstance(item, Scalar)]
    if len(words) != len(found):
        raise NotUnderstood(f"`{name}` has words that are not plain text")
    if any("$(" in word.text for word in words):
        raise NotUnderstood(f"`{name}` has variables of the container")
    return words
