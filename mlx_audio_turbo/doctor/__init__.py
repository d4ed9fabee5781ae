"""Whether the model computes the right numbers on this machine, and how fast.

``seeded`` makes the same weights and inputs everywhere, ``stages`` runs each network on them and
``goldens`` compares the outputs with recorded ones, ``kernels`` compares single operations with
plain forms on the CPU, ``growing`` renders utterances of growing length, ``speed`` times the
published sizes, ``folder`` checks a model folder. ``checkup`` puts these together.
"""
