"""SHA-256 fingerprints of what a restored Kubernetes also needs and this agent never stores.

They let a restore say which material is another one; they give nothing of it away. What a person may have chosen, the
token of RKE2 and k3s, is hashed so slowly that it can not be found by trying.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.platforms import etcd_options, static_pod
from agent.platforms.plain_yaml import NotUnderstood, Scalar, Tree, parse
from agent.platforms.reading import Reader, Unreadable
from agent.platforms.resolution import Resolved

TOKEN_ROUNDS = 200_000
TOKEN_SALT = b"etcd-agent token fingerprint"
PLAIN_FILES = ("cluster_ca", "etcd_ca", "service_account_key")


def of(resolved: Resolved, root: Path) -> dict[str, str]:
    """Hex digests by name; what is not there, or can not be read, has none."""
    chosen = resolved.detection.chosen
    material = {} if chosen is None else chosen.material
    reader = Reader(root)
    found = {name: _digest(content) for name in PLAIN_FILES if (content := _content(reader, material.get(name, "")))}
    if content := _content(Reader(Path("/")), resolved.config.etcd.ca_cert):
        found["etcd_ca"] = _digest(content)
    if content := _content(reader, material.get("token", "")):
        token = hashlib.pbkdf2_hmac("sha256", content.strip(), TOKEN_SALT, TOKEN_ROUNDS)
        found["token"] = token.hex()
    if names := _encryption_key_names(reader, material):
        found["encryption_key_names"] = _digest("\n".join(names).encode())
    return found


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(reader: Reader, name: str) -> bytes:
    try:
        return (reader.content(name) or b"") if name else b""
    except Unreadable:
        return b""


def _encryption_key_names(reader: Reader, material: Mapping[str, str]) -> list[str]:
    """`provider/key` of each key by which Secrets are encrypted in etcd, in the order that says which one writes."""
    try:
        path = material.get("encryption_config") or _named_by_api_server(reader, material)
        text = reader.text(path) if path else None
        return list(_names(_tree(text))) if text else []
    except (Unreadable, NotUnderstood, ValueError, RecursionError):
        return []


def _named_by_api_server(reader: Reader, material: Mapping[str, str]) -> str:
    """The file that the API server's manifest names, as a path of the node; empty when it names none."""
    manifest = material.get("kube_apiserver_manifest", "")
    text = reader.text(manifest) if manifest else None
    if not text:
        return ""
    pod = static_pod.read(text, manifest, "kube-apiserver")
    option = etcd_options.from_words(pod.words).get("encryption-provider-config")
    return (pod.on_node(option.text) or "") if option else ""


def _tree(text: str) -> Any:
    return json.loads(text) if text.lstrip().startswith("{") else _plain(parse(text))


def _plain(tree: Tree) -> Any:
    if isinstance(tree, dict):
        return {name: _plain(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_plain(value) for value in tree]
    return tree.text if isinstance(tree, Scalar) else None


def _names(config: Any) -> Iterator[str]:
    """The names alone: a key's `secret` is never looked at."""
    for resource in _listed(config, "resources"):
        for provider in _listed(resource, "providers"):
            for kind, details in provider.items() if isinstance(provider, dict) else ():
                yield from (f"{kind}/{key.get('name')}" for key in _listed(details, "keys") if isinstance(key, dict))


def _listed(tree: Any, name: str) -> list[Any]:
    found = tree.get(name) if isinstance(tree, dict) else None
    return found if isinstance(found, list) else []
