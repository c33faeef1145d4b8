"""Configuration files, variables and flags: a configuration, or every problem at once; by `load` and by the command."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from agent import config, settings
from agent.config import Config, Paths
from agent.errors import EXIT_OK, EXIT_USAGE, ConfigError
from agent.settings import Loaded
from tests.fuzz import command, odd
from tests.fuzz.target import Check, Target

VALID: Mapping[str, Sequence[str]] = {
    "cluster": ['"prod"', '"a.b-c"'],
    "platform": ['"auto"', '"kubeadm"'],
    "node.name": ['"node-1"', '""'],
    "node.instance_id": ['"i-0123456789abcdef0"', '""'],
    "etcd.endpoints": ['["https://127.0.0.1:2379"]', '["http://[::1]:2379", "http://b:1"]'],
    "etcd.ca_cert": ['"/etc/etcd/ca.crt"'],
    "etcd.cert": ['"/etc/etcd/client.crt"'],
    "etcd.key": ['"/etc/etcd/client.key"'],
    "etcd.data_dir": ['"/var/lib/etcd"'],
    "etcd.tools_dir": ['"/opt/etcd"'],
    "etcd.call_timeout_s": ["5", "120"],
    "store.kind": ['"directory"', '"s3"'],
    "store.bucket": ['"my.bucket-1"'],
    "store.prefix": ['"a/b"'],
    "store.endpoint_url": ['"https://s3.example"'],
    "store.kms_key_id": ['"alias/x"'],
    "snapshot.timeout_s": ["1800"],
    "snapshot.max_age_s": ["21600", "0x10", "1_000"],
    "log.level": ['"DEBUG"', '"INFO"'],
    "log.max_size_bytes": ["65536", "9223372036854775807"],
    "daemon.results_kept_days": ["15"],
}
ODD_TOML = (
    '""', '"\\n"', '"a\\u0000b"', "'''\na'''", "true", "nan", "-inf", "1e400", "0", "-1", "9" * 30, "9" * 5000, "[]",
    "[[]]", '["a", 1]', "{}", '{a = "b"}', "1979-05-27T07:32:00Z", "07:32:00", '"' + "a" * 70_000 + '"', "[" * 2000,
    '"${HOME}"', '"\\ud800"', "''", '"/etc/\\u001b[31m"', '"http://x"', '"HTTPS://x:1"', '"é"', '"٣"', "0b1",
)  # fmt: skip
KEYS = tuple(VALID)


@dataclass(frozen=True)
class Sources:
    """What one configuration is read from; no file where it is None."""

    file: bytes | None
    variables: Mapping[str, str]
    flags: Sequence[str]
    by_command: bool


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file of mostly valid keys, in tables or dotted, with odd values, doubled and unknown keys, then hurt."""
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        key = draw(st.one_of(st.sampled_from(KEYS), odd.texts_near(*KEYS)))
        valid = st.sampled_from(VALID.get(key, ['"x"']))
        lines.append(f"{key} = {draw(st.one_of(valid, valid, st.sampled_from(ODD_TOML)))}")
        if draw(st.integers(0, 9)) == 0:
            lines.append(draw(st.sampled_from(["[etcd]", "[", "[[store]]", "[node.x]", "#", "= 1", '["etcd"]'])))
    return draw(odd.hurt("\n".join(lines).encode("utf-8", "surrogatepass")))


bare_values = {key: tuple(text.strip('["]') for text in texts) for key, texts in VALID.items()}


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str]:
    """A key and a text for it, as variables and flags give them."""
    key = draw(st.one_of(st.sampled_from(KEYS), st.sampled_from(KEYS), odd.texts_near(*KEYS)))
    return key, odd.as_os_text(draw(odd.texts_near(*bare_values.get(key, ("x",)))))


@st.composite
def sources(draw: st.DrawFn) -> Sources:
    """Some of each."""
    variables = {}
    for key, value in draw(st.lists(pairs(), max_size=3)):
        name = "ETCD_AGENT_" + odd.as_os_text(key).replace(".", "__").upper()
        variables[name.replace("=", "")] = value
    flags = [f"{odd.as_os_text(key)}={value}" for key, value in draw(st.lists(pairs(), max_size=3))]
    flags += draw(st.lists(odd.odd_texts.map(odd.as_os_text), max_size=1))
    return Sources(draw(st.one_of(st.none(), files())), variables, flags, draw(st.integers(0, 7)) == 0)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Check]:
    paths = Paths(folder)
    paths.config_file.parent.mkdir(parents=True)

    def check(case: Sources) -> None:
        paths.config_file.unlink(missing_ok=True)
        if case.file is not None:
            paths.config_file.write_bytes(case.file)
        loaded = _loaded(paths, case.variables, case.flags)
        if isinstance(loaded, Loaded):
            _require_sound(loaded)
        else:
            _require_every_problem(paths, case, loaded)
        if case.by_command:
            _require_the_same_by_command(folder, case, loaded)

    yield check


def _loaded(paths: Paths, variables: Mapping[str, str], flags: Sequence[str]) -> Loaded | ConfigError:
    try:
        return settings.load(paths, variables, flags)
    except ConfigError as error:
        return error


def _require_sound(loaded: Loaded) -> None:
    """It is a valid configuration by itself, every key has an origin, and a log can hold every value."""
    assert msgspec.convert(msgspec.to_builtins(loaded.config), Config) == loaded.config
    assert list(loaded.origins) == config.keys()
    for key in loaded.origins:
        text = str(config.value_of(loaded.config, key))
        assert text.encode() is not None
        assert "\n" not in text, f"{key} is {text!r}"


def _require_every_problem(paths: Paths, case: Sources, error: ConfigError) -> None:
    """What alone would stop the start is listed among the others, unless a later source gives another value."""
    given = [_Given({name: text}, (), name.removeprefix("ETCD_AGENT_").lower().replace("__", ".", 1))
             for name, text in case.variables.items()]  # fmt: skip
    given += [_Given({}, (flag,), flag.partition("=")[0].strip()) for flag in case.flags]
    last = {one.key: one for one in given}
    for one in last.values():
        alone = _loaded(Paths(paths.root / "nothing"), one.variables, one.flags)
        if isinstance(alone, ConfigError):
            problem = alone.message.partition("\n")[2]
            assert problem in error.message or "needed with store.kind" in problem, (problem, error.message)


@dataclass(frozen=True)
class _Given:
    variables: Mapping[str, str]
    flags: Sequence[str]
    key: str


def _require_the_same_by_command(folder: Path, case: Sources, loaded: Loaded | ConfigError) -> None:
    words: list[Any] = [part for flag in case.flags for part in ("--set", flag)]
    words += ["config", "show", "--json"]
    told = command.run(words, {"ETCD_AGENT_ROOT": str(folder), **case.variables})
    command.require_in_order(told, words)
    # A certificate without its key is only a problem once the platform has no other one.
    assert told.code == EXIT_USAGE or (told.code == EXIT_OK and isinstance(loaded, Loaded)), told
    plain = command.run(words[:-1], {"ETCD_AGENT_ROOT": str(folder), **case.variables})
    command.require_in_order(plain, words[:-1])
    assert plain.code == told.code


TARGETS = (Target("configuration", "files, variables and flags", 12, sources(), opened),)
