"""How fast the model is here, stage by stage, and beside other implementations of it.

``workload`` says what is run, ``measure`` times it, ``machine`` knows the hardware, ``peers`` talks
to other implementations in their own environments, ``runs`` puts these together, ``report`` and
``plot`` show the outcome.
"""
