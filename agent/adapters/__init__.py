"""One file per outside thing. An adapter may import `process` and `files`, no other adapter."""
