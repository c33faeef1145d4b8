"""Unit files, variables, options and certificates: read as systemd, etcd and TLS take them, or not at all."""

import os
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.platforms import client_certificate, etcd_options, static_pod, systemd_unit
from agent.platforms.finding import Value
from agent.platforms.plain_yaml import NotUnderstood
from agent.platforms.reading import Reader, Unreadable
from tests.sandbox.platform_pki import CLIENT, SERVER, PlatformAuthority
from tests.sandbox.platform_trees import Tree

SERVICE = "/etc/systemd/system/etcd.service"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def words(tree: Tree, lines: str) -> list[str]:
    tree.write(SERVICE, f"[Service]\n{lines}\n[Install]\nWantedBy=multi-user.target\n")
    unit = systemd_unit.find(Reader(tree.root), "etcd.service")
    assert unit is not None
    return [word.text for word in unit.command]


@pytest.mark.parametrize(
    "lines, expected",
    [
        ("ExecStart=/usr/bin/etcd --a=b --c d", ["/usr/bin/etcd", "--a=b", "--c", "d"]),
        ("ExecStart=-/usr/bin/etcd '--a=b c'", ["/usr/bin/etcd", "--a=b c"]),
        ("ExecStart=/x \\\n# note\n  --a \\\n  --b", ["/x", "--a", "--b"]),
        ("ExecStart=/x\nExecStart=\nExecStart=/y", ["/y"]),
        ("Environment=A=1 'B=2 3'\nExecStart=/x ${A} $B ${B} ${NO} $NO", ["/x", "1", "2", "3", "2 3", ""]),
        ("Environment=A=1\nEnvironment=A=2\nExecStart=/x --a=${A}", ["/x", "--a=2"]),
        ("Environment=A=1\nEnvironment=\nExecStart=/x --a=${A}", ["/x", "--a="]),
        ("Environment=A=%p-%n-%%\nExecStart=/x ${A}", ["/x", "etcd-etcd.service-%"]),
        ('ExecStart=/bin/sh -c "exec /usr/bin/etcd --a=b"', ["/usr/bin/etcd", "--a=b"]),
        (
            'Environment=N=v\nExecStart=/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd --n=\\"${N}\\""',
            ["/usr/bin/etcd", "--n=v"],
        ),
    ],
)
def test_a_command_line_is_what_systemd_makes_of_it(tree: Tree, lines: str, expected: list[str]) -> None:
    assert words(tree, lines) == expected


@pytest.mark.parametrize(
    "lines",
    [
        "", "ExecStart=/x\nExecStart=/y", "ExecStart=/x 'open", "ExecStart=/x --a=\\x20b",
        'ExecStart=/bin/sh -c "/usr/bin/etcd | logger"', 'ExecStart=/bin/sh -c "a; etcd"',
        'ExecStart=/bin/sh -c "ETCD_DATA_DIR=/x etcd"', "Environment='A\nExecStart=/x",
    ],
)  # fmt: skip
def test_what_is_not_simple_is_not_understood(tree: Tree, lines: str) -> None:
    with pytest.raises(NotUnderstood):
        words(tree, lines)


def test_drop_ins_count_by_their_names_and_the_administrators_go_first(tree: Tree) -> None:
    tree.write("/usr/lib/systemd/system/etcd.service", "[Service]\nEnvironment=A=main\nExecStart=/x ${A}\n")
    tree.write("/usr/lib/systemd/system/etcd.service.d/10-a.conf", "[Service]\nEnvironment=A=package\n")
    reader = Reader(tree.root)

    def started() -> list[str]:
        unit = systemd_unit.find(reader, "etcd.service")
        assert unit is not None
        assert unit.is_enabled  # it can not be enabled, so it is wanted by something else
        return [word.text for word in unit.command]

    assert started() == ["/x", "package"]
    tree.write("/etc/systemd/system/etcd.service.d/10-a.conf", "[Service]\nEnvironment=A=own\n")
    assert started() == ["/x", "own"]
    tree.write("/run/systemd/system/etcd.service.d/20-b.conf", "[Service]\nExecStart=\nExecStart=/y ${A}\n")
    assert started() == ["/y", "own"]
    tree.write("/etc/systemd/system/etcd.service.d/20-b.conf", "")
    assert started() == ["/x", "own"]


def test_a_file_of_variables_goes_before_the_unit(tree: Tree) -> None:
    tree.write("/etc/default/etcd", "# A=0\n; A=0\n\nA=file\nB=\"x y\"\nC='z'\nD=a b\nnonsense\n")
    files = "EnvironmentFile=-/etc/default/%p\nEnvironmentFile=-/no/such\n"
    lines = f"{files}Environment=A=unit\nExecStart=/x ${{A}} ${{B}} ${{C}} ${{D}}"
    assert words(tree, lines) == ["/x", "file", "x y", "z", "a b"]


@pytest.mark.parametrize("content", ["A=b\\\nc\n", 'A="b\nc"\n'])
def test_variables_over_several_lines_are_not_understood(tree: Tree, content: str) -> None:
    tree.write("/etc/default/etcd", content)
    with pytest.raises(NotUnderstood):
        systemd_unit.variables_of_file(Reader(tree.root), "/etc/default/etcd")


@pytest.mark.parametrize(
    "listen, endpoint",
    [
        ("https://127.0.0.1:2379,https://10.0.0.1:2379", "https://127.0.0.1:2379"),
        ("https://10.0.0.1:2379, https://[::1]:2379", "https://[::1]:2379"),
        ("http://0.0.0.0:4001", "http://127.0.0.1:4001"),
        ("https://[::]:2379", "https://[::1]:2379"),
        ("https://node.example", "https://node.example:2379"),
        ("unix://localhost:2379,http://10.0.0.1:1", "http://10.0.0.1:1"),
        ("unixs://x", ""), ("", ""), ("http://[::1", ""), ("http://h:port", ""), ("http://u:p@h:1", ""), ("2379", ""),
        ("http://h:1/path", ""),
    ],
)  # fmt: skip
def test_the_endpoint_is_one_that_a_client_on_the_node_reaches(listen: str, endpoint: str) -> None:
    assert etcd_options.local_endpoint(listen) == endpoint


def test_flags_in_every_form() -> None:
    line = ["--a=1", "-b=2", "--c", "3", "--d", "--e=x=y", "--a=4", "stray", "--f"]
    found = etcd_options.from_words([Value(word, "file") for word in line])
    assert {name: value.text for name, value in found.items()} == {
        "a": "4", "b": "2", "c": "3", "d": "true", "e": "x=y", "f": "true",
    }  # fmt: skip
    assert found["c"].why == "file --c"


POD = """spec:
  containers:
  - command: [other]
    name: sidecar
  - args:
    - --data-dir=/data/etcd
    command:
    - /usr/local/bin/etcd
    volumeMounts:
    - {mounts}
  volumes:
  - hostPath:
      path: /srv/etcd
    name: data
  - emptyDir: {{}}
    name: scratch
"""


@pytest.mark.parametrize(
    "mounts, place",
    [
        ("{mountPath: /data, name: data}", None),
        ("mountPath: /data\n      name: data", "/srv/etcd/etcd"),
        ("mountPath: /data/etcd/\n      name: data", "/srv/etcd"),
        ("mountPath: /data\n      name: data\n      subPath: sub", "/srv/etcd/sub/etcd"),
        ("mountPath: /data\n      name: data\n      subPathExpr: $(X)", None),
        ("mountPath: /data\n      name: scratch", None),
        ("mountPath: /dat\n      name: data", None),
    ],
)
def test_a_path_in_a_pod_is_one_of_the_node_by_its_mounts_alone(mounts: str, place: str | None) -> None:
    text = POD.format(mounts=mounts).replace("command: [other]", "command:\n    - other")
    pod = static_pod.read(text, "etcd.yaml", "etcd")
    assert etcd_options.from_words(pod.words)["data-dir"].text == "/data/etcd"
    assert pod.on_node("/data/etcd") == place


@pytest.mark.parametrize(
    "old, new",
    [
        ("command:\n    - /usr/local/bin/etcd", "command: [/usr/local/bin/etcd]"),
        ("- --data-dir=/data/etcd", "- --data-dir=$(DIR)"),
        ("- /usr/local/bin/etcd", "- sh\n    - -c\n    - etcd"),
        ("name: sidecar", "args:\n    - etcd\n    name: sidecar"),
    ],
)
def test_a_pod_whose_command_is_not_plain_is_not_understood(old: str, new: str) -> None:
    text = POD.format(mounts="mountPath: /data\n      name: data").replace("command: [other]", "command:\n    - x")
    text = text.replace("command:\n    - x", "command:\n    - etcd") if new.startswith("args") else text
    assert old in text
    with pytest.raises(NotUnderstood):
        static_pod.read(text.replace(old, new), "etcd.yaml", "etcd")


@pytest.mark.parametrize(
    "usages, usable",
    [([CLIENT], True), ([SERVER, CLIENT], True), ([SERVER], False), (None, True)],
)
def test_what_a_certificate_may_be_used_for(tmp_path: Path, usages: list[object] | None, usable: bool) -> None:
    cert = tmp_path / "a.crt"
    PlatformAuthority(tmp_path / "ca.crt").issue(cert, tmp_path / "a.key", usages)  # type: ignore[arg-type]
    assert client_certificate.usable_by_client(ssl.PEM_cert_to_DER_cert(cert.read_text())) is usable


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_what_is_no_certificate_is_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, at: int, byte: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    if not (folder / "a.crt").exists():
        PlatformAuthority(folder / "ca.crt").issue(folder / "a.crt", folder / "a.key", [SERVER])
    der = bytearray(ssl.PEM_cert_to_DER_cert((folder / "a.crt").read_text()))
    der[min(at, len(der) - 1)] = byte
    for odd in (text, bytes(der), bytes(der[:at])):
        try:
            client_certificate.usable_by_client(odd)
        except ValueError:
            continue


def test_reading_is_bounded_and_says_why(tree: Tree) -> None:
    tree.write("/big", "x" * 70_000)
    tree.path("/binary").write_bytes(b"\xff\xfe\x00")
    tree.folder("/folder")
    tree.link("/loop", "loop")
    tree.link("/dangling", "/no/such/file/anywhere")
    os.mkfifo(tree.path("/pipe"))
    reader = Reader(tree.root)
    reasons = {}
    for name in ("/big", "/binary", "/folder", "/loop", "/pipe"):
        with pytest.raises(Unreadable) as caught:
            reader.text(name)
        reasons[name] = caught.value.reason
    for name, text in (
        ("/big", "more than 65536 bytes"), ("/binary", "is not text"), ("/folder", "is not a regular file"),
        ("/loop", "Too many levels"), ("/pipe", "is not a regular file"),
    ):  # fmt: skip
        assert text in reasons[name]
        assert str(tree.path(name)) in reasons[name]
    assert reader.text("/dangling") is None
    assert reader.text("/big/below") is None
    assert reader.path("/../../etc/passwd") == str(tree.path("/etc/passwd"))
    assert reader.looked_at[0] == str(tree.path("/big"))
