"""Programs that measure: parity, peers, robustness, stress, streaming, reliability."""
