"""Damaged snapshots of a real etcd, offered to whatever takes snapshots for good."""
