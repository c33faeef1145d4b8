"""Tests of etcd-agent and the sandbox they run in."""
