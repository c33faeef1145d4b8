"""Pure decisions and plain data: no I/O, no clock, no environment."""
