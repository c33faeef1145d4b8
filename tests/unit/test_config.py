"""Configuration: file, then environment, then flags; every problem at once, each with where it came from."""

import contextlib
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import config, settings
from agent.config import Paths
from agent.errors import ConfigError
from agent.settings import Loaded

BOUND_BY_CONTRACT = {
    "cluster", "etcd.endpoints", "etcd.ca_cert", "etcd.cert", "etcd.key", "etcd.data_dir", "etcd.tools_dir",
    "store.kind", "store.path", "store.bucket", "store.prefix", "store.region", "store.endpoint_url",
    "store.kms_key_id", "snapshot.max_age_s", "snapshot.timeout_s", "log.path", "log.level",
}  # fmt: skip


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path)
    made.config_file.parent.mkdir(parents=True)
    return made


def load(
    paths: Paths, content: str | bytes = "", environment: Mapping[str, str] | None = None, flags: Sequence[str] = ()
) -> Loaded:
    paths.config_file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return settings.load(paths, environment or {}, flags)


def problems(
    paths: Paths, content: str | bytes = "", environment: Mapping[str, str] | None = None, flags: Sequence[str] = ()
) -> str:
    with pytest.raises(ConfigError) as caught:
        load(paths, content, environment, flags)
    return caught.value.message


def test_every_key_has_a_default_and_no_file_is_needed(tmp_path: Path) -> None:
    loaded = settings.load(Paths(tmp_path), {})
    assert set(config.keys()) >= BOUND_BY_CONTRACT
    assert set(loaded.origins) == set(config.keys())
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.config.store.kind == "directory"
    assert loaded.config.store.path == str(tmp_path / "var/lib/etcd-agent/snapshots")
    assert loaded.config.log.path == str(tmp_path / "var/log/etcd-agent/agent.jsonl")
    assert loaded.config.node.name == socket.gethostname()


def test_flags_win_over_variables_and_variables_over_the_file(paths: Paths) -> None:
    content = '[snapshot]\nmax_age_s = 100\ntimeout_s = 100\n[log]\nlevel = "DEBUG"\n'
    environment = {"ETCD_AGENT_SNAPSHOT__MAX_AGE_S": "200", "ETCD_AGENT_SNAPSHOT__TIMEOUT_S": "200"}
    loaded = load(paths, content, environment, ["snapshot.timeout_s=300"])
    assert (loaded.config.snapshot.max_age_s, loaded.config.snapshot.timeout_s) == (200, 300)
    assert loaded.config.log.level == "DEBUG"
    assert loaded.origins["log.level"] == f"file {paths.config_file}"
    assert loaded.origins["snapshot.max_age_s"] == "variable ETCD_AGENT_SNAPSHOT__MAX_AGE_S"
    assert loaded.origins["snapshot.timeout_s"] == "flag --set snapshot.timeout_s"
    assert loaded.origins["cluster"] == "default"


def test_a_list_is_written_with_commas_where_there_is_only_text(paths: Paths) -> None:
    wanted = ("https://10.0.0.1:2379", "https://[fd00::1]:2379")
    assert load(paths, flags=[f"etcd.endpoints={', '.join(wanted)}"]).config.etcd.endpoints == wanted
    assert load(paths, f"[etcd]\nendpoints = {list(wanted)}").config.etcd.endpoints == wanted


def test_all_problems_are_told_at_once_with_their_places(paths: Paths) -> None:
    told = problems(
        paths,
        '[etcd]\nendpoint = "x"\ncert = "/a"\n[store]\nkind = "s3"\n[log]\nmax_size_bytes = 1\n',
        {"ETCD_AGENT_SNAPSHOT__TIMEOUT_S": "soon"},
        ["cluster=UPPER", "cluster"],
    )
    assert "has 6 problems" in told
    for text in (
        f"etcd.endpoint: unknown key (file {paths.config_file})",
        "log.max_size_bytes: Expected `int` >= 65536",
        "snapshot.timeout_s: Expected `int`, got `str` (variable ETCD_AGENT_SNAPSHOT__TIMEOUT_S)",
        "cluster: Expected `str` matching regex",
        "flag --set 'cluster': expected KEY=VALUE",
        "store.bucket: needed with store.kind = 's3'",
    ):
        assert text in told


@pytest.mark.parametrize(
    "content, text",
    [
        ("[etcd", "not valid TOML"),
        (b"\xff\xfe", "not valid TOML"),
        ("a = " + "[" * 10_000, "not valid TOML"),
        ("[log]\nmax_size_bytes = " + "9" * 5_000, "not valid TOML"),
        ("[snapshot]\nmax_age_s = " + "9" * 30, "snapshot.max_age_s: "),
        ("[snapshot]\nmax_age_s = true", "snapshot.max_age_s: "),
        ("[snapshot]\nmax_age_s = 2026-01-31", "snapshot.max_age_s: "),
        ("[snapshot]\nmax_age_s = nan", "snapshot.max_age_s: "),
        ("etcd = 1", "etcd: unknown key"),
        ("[cluster]\nname = 'x'", "cluster.name: unknown key"),
        ("[etcd.endpoints]\nx = 1", "etcd.endpoints: "),
        ("[[store]]\nkind = 's3'", "store: unknown key"),
        ("[stores]", "stores: unknown table"),
        ("[etcd]\nendpoints = []", "etcd.endpoints: "),
        ("[etcd]\nendpoints = ['http://a b']", "etcd.endpoints: "),
        ("[etcd]\nca_cert = 'relative'", "etcd.ca_cert: "),
        ('[etcd]\nca_cert = "/a\\n"', "etcd.ca_cert: "),
        ("[node]\ninstance_id = 'i-XYZ'", "node.instance_id: "),
        ("[store]\nprefix = '/absolute'", "store.prefix: "),
        ("[store]\nbucket = 'UPPER'", "store.bucket: "),
        ("[store]\nkind = 'tape'", "store.kind: "),
        ("[log]\nlevel = 'info'", "log.level: "),
    ],
)
def test_a_wrong_file_names_the_key_and_the_file(paths: Paths, content: str | bytes, text: str) -> None:
    told = problems(paths, content)
    assert text in told
    assert str(paths.config_file) in told


@pytest.mark.parametrize(
    "variable, value, text",
    [
        ("ETCD_AGENT_ETCD__ENDPOINT", "x", "etcd.endpoint: unknown key (variable ETCD_AGENT_ETCD__ENDPOINT)"),
        ("ETCD_AGENT_", "x", ": unknown key (variable ETCD_AGENT_)"),
        ("ETCD_AGENT_ETCD", "x", "etcd: unknown key"),
        ("ETCD_AGENT_ETCD__CALL_TIMEOUT_S", "9" * 5_000, "etcd.call_timeout_s: "),
        ("ETCD_AGENT_ETCD__CALL_TIMEOUT_S", "1.5", "etcd.call_timeout_s: "),
        ("ETCD_AGENT_ETCD__CALL_TIMEOUT_S", "\udcff", "etcd.call_timeout_s: "),
        ("ETCD_AGENT_ETCD__ENDPOINTS", " , ", "etcd.endpoints: "),
    ],
)
def test_a_wrong_variable_is_named(paths: Paths, variable: str, value: str, text: str) -> None:
    assert text in problems(paths, environment={variable: value})


def test_variables_that_are_no_configuration_are_left_alone(paths: Paths) -> None:
    environment = {
        "ETCD_AGENT_ROOT": "/x", "ETCD_AGENT_CACHE": "/y", "ETCD_AGENT_OP_ID": "snapshot-1", "ETCDCTL_API": "3",
    }  # fmt: skip
    assert set(load(paths, environment=environment).origins.values()) == {"default"}


@pytest.mark.parametrize("flag, text", [("cluster", "KEY=VALUE"), ("=x", ": unknown key"), ("a.b.c=1", "a.b.c: unk")])
def test_a_wrong_flag_is_named(paths: Paths, flag: str, text: str) -> None:
    assert text in problems(paths, flags=[flag])


def test_a_file_that_can_not_be_read_is_told(paths: Paths) -> None:
    paths.config_file.mkdir()
    with pytest.raises(ConfigError, match=r"config.toml: cannot be read: Is a directory"):
        settings.load(paths, {})


def test_a_root_that_is_not_absolute_is_refused() -> None:
    with pytest.raises(ConfigError, match="not an absolute path"):
        Paths.from_environment({"ETCD_AGENT_ROOT": "relative"})
    assert Paths.from_environment({"ETCD_AGENT_ROOT": ""}).root == Path("/")


@given(st.text(st.characters(codec=None)) | st.binary())
def test_any_file_is_a_configuration_or_a_list_of_problems(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    paths = Paths(tmp_path_factory.getbasetemp())
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    with contextlib.suppress(ConfigError):
        load(paths, raw)


TOML_VALUES = st.sampled_from(
    ["1", "-1", "0x10", "1e400", "inf", "true", '""', '"/a"', "[]", "[1]", '["http://a:1"]', "{a = 1}", "12:00:00"]
)


@given(st.dictionaries(st.sampled_from([*config.keys(), "etcd", "x.y", '"etcd.key"']), TOML_VALUES, max_size=6))
def test_any_value_under_any_key_is_a_configuration_or_a_list_of_problems(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]
) -> None:
    paths = Paths(tmp_path_factory.getbasetemp())
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(ConfigError):
        load(paths, "".join(f"{key} = {value}\n" for key, value in settings.items()))


@given(key=st.sampled_from(config.keys()), text=st.text(st.characters(codec=None), max_size=30))
def test_any_text_in_a_variable_or_flag_is_a_configuration_or_a_list_of_problems(key: str, text: str) -> None:
    variable = f"ETCD_AGENT_{key.replace('.', '__').upper()}"
    for environment, flags in (({variable: text}, []), ({}, [f"{key}={text}"])):
        with contextlib.suppress(ConfigError):
            loaded = settings.load(Paths(Path("/nonexistent")), environment, flags)
            assert loaded.origins[key] != "default"
