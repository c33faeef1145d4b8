"""What lies in the sandbox's bucket."""

import json
from typing import Any

from tests.sandbox.control_plane import ControlPlane


def manifests_of(plane: ControlPlane, op_id: str) -> list[dict[str, Any]]:
    """The manifests that an operation wrote, verification records left out."""
    assert plane.s3 is not None
    client = plane.s3.client()
    listed = client.list_objects_v2(Bucket=plane.s3.bucket).get("Contents", [])
    bodies = [
        json.loads(client.get_object(Bucket=plane.s3.bucket, Key=entry["Key"])["Body"].read())
        for entry in listed
        if "/manifest/" in entry["Key"] and ".verified-" not in entry["Key"]
    ]
    return [body for body in bodies if body["op_id"] == op_id]
