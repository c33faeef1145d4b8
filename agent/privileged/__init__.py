"""What runs as root: the service behind `spool/root/` and the verbs that it knows."""
