"""Thin handlers: each decides which node is asked and sends it one SSM command. They never wait."""
