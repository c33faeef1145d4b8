"""Near-valid input for whatever reads input: `make fuzz CASES=100000`, and a short run in `make test`."""
