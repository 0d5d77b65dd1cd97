"""Hold the paper's claims against results: what it reports, and what our nearest setting says of it."""
