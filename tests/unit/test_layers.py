"""The arrows between the layers, read from the imports themselves."""

import ast
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
ORDER = {
    "errors": 0, "trace": 0, "logs": 1, "config": 1, "settings": 1, "metrics": 2, "domain": 2, "ports": 3,
    "adapters": 4, "platforms": 4, "operations": 4, "outcome": 5, "worker": 5, "caretaker": 5, "scheduler": 5,
    "privileged": 5, "workers": 6, "recovery": 6, "cancelling": 6, "parking": 6, "housekeeping": 6,
    "intake": 6, "daemon": 6, "node": 7, "bootstrap_ports": 7, "bootstrap": 7, "cli": 8, "__main__": 9,
}  # fmt: skip
OF_THE_DAEMON = ("workers", "recovery", "cancelling", "parking", "housekeeping", "intake", "daemon")
DAEMON_ADAPTERS = {"process", "spool", "systemd", "imds"}


def modules() -> list[Path]:
    return sorted((PROJECT / "agent").rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every imported module, `agent.x.y` for `from agent.x import y` too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(path: Path) -> str:
    return path.relative_to(PROJECT / "agent").with_suffix("").parts[0]


def test_every_module_has_a_layer() -> None:
    assert {layer(path) for path in modules()} - {"__init__"} <= ORDER.keys()


def test_imports_go_downwards_only() -> None:
    wrong = [
        f"{path.relative_to(PROJECT)} imports {name}"
        for path in modules()
        for name in imports(path)
        if (parts := name.split("."))[0] == "agent"
        and len(parts) > 1
        and parts[1] in ORDER
        and ORDER[parts[1]] > ORDER.get(layer(path), 0)
    ]
    assert wrong == []


def test_operations_and_adapters_do_not_know_each_other() -> None:
    wrong = [
        f"{path.name} imports {name}"
        for path in modules()
        for name in imports(path)
        if (layer(path) == "operations" and name.startswith(("agent.adapters", "agent.platforms")))
        or (layer(path) == "adapters" and name.startswith("agent.operations"))
    ]
    assert wrong == []


def test_an_adapter_imports_no_other_adapter_but_process_and_files() -> None:
    """A thing that needs several files has one name before the `_`: s3_upload is a part of s3, no other adapter."""
    allowed = ("agent.adapters.process", "agent.adapters.files")
    wrong = [
        f"{path.name} imports {name}"
        for path in modules()
        for name in imports(path)
        if layer(path) == "adapters"
        and name.startswith("agent.adapters.")
        and not name.startswith(allowed)
        and name.split(".")[2].split("_")[0] != path.stem.split("_")[0]
    ]
    assert wrong == []


def test_the_daemon_uses_only_its_adapters() -> None:
    used = {
        name.split(".")[2]
        for path in modules()
        if layer(path) in OF_THE_DAEMON
        for name in imports(path)
        if name.startswith("agent.adapters.")
    }
    assert {name.split("_")[0] for name in used} <= DAEMON_ADAPTERS


def test_each_outside_door_has_one_importer() -> None:
    def importers(door: str) -> list[str]:
        return [path.name for path in modules() if any(name.split(".")[0] == door for name in imports(path))]

    assert importers("subprocess") == ["process.py"]
    assert importers("boto3") == ["aws.py"]
    assert importers("watchdog") == ["spool_watch.py"]


def test_what_can_be_detected_is_asked_of_the_node_and_not_of_the_bare_configuration() -> None:
    """`node.config.etcd` would miss what the platform says; `node.etcd` has it."""
    wrong = [
        f"{path.relative_to(PROJECT)} line {node.lineno}"
        for path in modules()
        if layer(path) not in ("config", "settings", "platforms")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in ("etcd", "kubernetes")
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "config"
        and not (isinstance(node.value.value, ast.Attribute) and node.value.value.attr == "resolved")
    ]
    assert wrong == []
