"""Builds `dist/lambdas.zip`, the same bytes from the same sources wherever and whenever it runs."""

import hashlib
import importlib.metadata
import importlib.util
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
TARGET = PROJECT / "dist/lambdas.zip"
AGENT_FILES = ("agent/__init__.py", "agent/trace.py", "agent/logs.py")
LOGGER_PACKAGE = "pythonjsonlogger"
EARLIEST_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
REGULAR_FILE_FOR_ALL_TO_READ = 0o100644
MADE_ON_UNIX = 3


def build(target: Path) -> str:
    """Writes the zip, complete or not at all, and returns its sha256 in hex."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.part")
    with zipfile.ZipFile(unfinished, "w") as archive:
        for name, path in sorted(contents().items()):
            archive.writestr(_entry(name), path.read_bytes())
    unfinished.replace(target)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def contents() -> Mapping[str, Path]:
    """The files of the zip by their names in it."""
    handlers = {path.name: path for path in (PROJECT / "lambdas").glob("*.py") if path.name != "build.py"}
    return (
        {f"lambdas/{name}": path for name, path in handlers.items()}
        | {name: PROJECT / name for name in AGENT_FILES}
        | _logger_files()
    )


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry without time, umask or compression: those of zlib's builds differ in their bytes."""
    entry = zipfile.ZipInfo(name, EARLIEST_ZIP_TIME)
    entry.create_system = MADE_ON_UNIX
    entry.external_attr = REGULAR_FILE_FOR_ALL_TO_READ << 16
    entry.compress_type = zipfile.ZIP_STORED
    return entry


def _logger_files() -> dict[str, Path]:
    """The package's modules, and its licence, which has to travel with them."""
    spec = importlib.util.find_spec(LOGGER_PACKAGE)
    if spec is None or spec.origin is None:
        sys.exit(f"{LOGGER_PACKAGE} is not installed: run this by `make lambdas`")
    folder = Path(spec.origin).parent
    files = {f"{LOGGER_PACKAGE}/{path.relative_to(folder)}": path for path in folder.rglob("*.py")}
    licences = [
        Path(str(file.locate()))
        for file in importlib.metadata.files("python-json-logger") or ()
        if file.name.startswith("LICEN")
    ]
    return files | {f"{LOGGER_PACKAGE}/{path.name}": path for path in licences}


if __name__ == "__main__":
    print(f"{TARGET.relative_to(PROJECT)}  sha256 {build(TARGET)}")
