"""Faults put into the real agent, and what must hold after them."""
