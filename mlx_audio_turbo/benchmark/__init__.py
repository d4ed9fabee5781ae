"""How fast the model is on this machine, stage by stage.

``workload`` says what is run, ``measure`` times it, ``machine`` knows the hardware, ``runs`` puts
these together, ``report`` and ``plot`` show the outcome. The comparison with other implementations
is in ``tests/measure/peers``.
"""
