"""Tools that `tickbridge run` does not need: audit, verify, simulator, demo, benchmarks."""
