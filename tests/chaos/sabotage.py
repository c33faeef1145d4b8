"""Defects that can be put into the agent on purpose, so that the suite is seen to find them."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from tests.chaos import snapshot_sabotage

Patch = Callable[[ModuleType], None]


def patches(name: str) -> dict[str, Patch]:
    """What to change in which module after its import; nothing for ""."""
    return {**SABOTAGES, **snapshot_sabotage.SABOTAGES}[name] if name else {}


def _last_manifest_wins(module: Any) -> None:
    """Small objects without their condition."""

    def put_if_absent(self: Any, key: str, content: bytes, *, metadata: Any) -> bool:
        self._bucket.call("put_object", Key=self._bucket.full(key), Body=content, Metadata=dict(metadata))
        return True

    module.S3Store.put_if_absent = put_if_absent


def _no_end_of_former_attempt(module: Any) -> None:
    module.end_attempt = lambda identity, op_id: None
    module.kill_group = lambda group, op_id: None


def _keeps_killed_files(module: Any) -> None:
    module._remove_all_but_journal = lambda folder: None


def _alters_data(module: Any) -> None:
    """The commit mark of data that are no more what they were."""
    original = module.commit

    def commit(job: Any, target: Any, manifest: Any) -> Any:
        output = original(job, target, manifest)
        target._path(manifest.data.key).write_bytes(b"half")
        return output

    module.commit = commit


def _record_gone_before_end(module: Any) -> None:
    """The record is gone from `running/` before the end has it."""

    def finish(self: Any, record: Any) -> None:
        self.drop_running(record.request.op_id)
        original(self, record)

    original = module.Spool.finish
    module.Spool.finish = finish


SABOTAGES: dict[str, dict[str, Patch]] = {
    "manifest-without-condition": {"agent.adapters.s3": _last_manifest_wins},
    "former-attempt-lives": {"agent.adapters.process": _no_end_of_former_attempt},
    "killed-files-stay": {"agent.operations.leftovers": _keeps_killed_files},
    "manifest-of-bad-data": {"agent.operations.committing": _alters_data},
    "running-before-end": {"agent.adapters.spool": _record_gone_before_end},
}
