"""How far a snapshot is, is asked while etcdctl writes, renames or removes its file: none of that is our failure."""

import sys
from pathlib import Path

import pytest

from agent.adapters import process
from agent.adapters.etcdctl import Etcdctl
from agent.config import EtcdConfig
from agent.errors import EtcdOutcomeUnknown

pytestmark = pytest.mark.integration
COMES_AND_GOES = """#!{python} -I
import os, sys
part = sys.argv[-1] + ".part"
for _ in range(10_000):
    os.close(os.open(part, os.O_CREAT | os.O_WRONLY))
    os.unlink(part)
sys.exit("Error: context deadline exceeded")
"""


def test_a_file_that_is_gone_when_its_size_is_asked_is_no_failure_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "etcdctl"
    program.write_text(COMES_AND_GOES.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(process, "TICK_S", 0.0002)
    client = Etcdctl(EtcdConfig(endpoints=("http://127.0.0.1:1",), tools_dir=str(tmp_path)))
    sizes: list[int] = []
    with pytest.raises(EtcdOutcomeUnknown, match="context deadline exceeded"):
        client.save_snapshot(tmp_path / "snapshot.db", timeout_s=60, on_bytes=sizes.append)
    assert set(sizes) <= {0}
    assert not list(tmp_path.glob("snapshot.db*"))
