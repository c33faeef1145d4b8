"""etcd's own options as somebody wrote them, by flags, variables or a file, and what follows for one who connects."""

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from agent.platforms.finding import Value
from agent.platforms.plain_yaml import Opaque, Scalar, Tree

Options = Mapping[str, Value]
FLAG = re.compile(r"--?([a-z][a-z0-9-]*)(?:=(.*))?", re.DOTALL)
VARIABLE_PREFIX = "ETCD_"
FROM_TRANSPORT = ("cert-file", "key-file", "trusted-ca-file", "client-cert-auth", "auto-tls")
DEFAULT_PORT = 2379
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - read, never listened on


def from_words(words: Sequence[Value]) -> dict[str, Value]:
    """The options in a command line, without its program; of a repeated one the last, as etcd itself takes it."""
    found: dict[str, Value] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        match = FLAG.fullmatch(word.text)
        if match is None:
            continue
        text = match[2]
        if text is None:
            text = rest.pop(0).text if rest and not rest[0].text.startswith("-") else "true"
        found[match[1]] = Value(text, f"{word.why} --{match[1]}")
    return found


def from_variables(variables: Mapping[str, Value]) -> dict[str, Value]:
    """The options among variables: ETCD_DATA_DIR is `data-dir`."""
    return {
        name.removeprefix(VARIABLE_PREFIX).lower().replace("_", "-"): Value(value.text, f"{value.why} {name}")
        for name, value in variables.items()
        if name.startswith(VARIABLE_PREFIX) and value.text
    }


def from_file(tree: Tree, path: str) -> dict[str, Value]:
    """The options in etcd's configuration file; its `client-transport-security` under the names of the flags."""
    if not isinstance(tree, dict):
        return {}
    found = dict(_scalars(tree, path, ""))
    transport = tree.get("client-transport-security")
    if isinstance(transport, dict):
        inner = dict(_scalars(transport, path, "client-transport-security."))
        found |= {name: inner[name] for name in FROM_TRANSPORT if name in inner}
    return found


def unread(tree: Tree, names: Iterable[str]) -> list[str]:
    """Which of those names the file has in a form that is not read here."""
    if not isinstance(tree, dict):
        return []
    return [name for name in names if name in tree and isinstance(tree[name], Opaque)]


def is_true(options: Options, name: str) -> bool:
    """Whether an option is switched on."""
    return name in options and options[name].text.lower() in ("true", "1", "t")


def local_endpoint(listen_client_urls: str) -> str:
    """The URL of a client on the node itself: a loopback address if etcd listens on one; empty when there is none."""
    urls = [url for part in listen_client_urls.split(",") if (url := _reachable(part.strip()))]
    on_loopback = [url for url in urls if (urlsplit(url).hostname or "") in LOOPBACK]
    return (on_loopback or urls or [""])[0]


def _reachable(url: str) -> str:
    """The URL as a client writes it; empty for what is no http(s) URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.query or parts.fragment or "@" in url:
        return ""
    host = ANY_ADDRESS.get(host, host)
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port or DEFAULT_PORT}"


def _scalars(tree: Mapping[str, Tree], path: str, table: str) -> Iterable[tuple[str, Value]]:
    for name, value in tree.items():
        if isinstance(value, Scalar) and value.text:
            yield name, Value(value.text, f"{path} line {value.line} {table}{name}")
