"""A stand-in for the ``k3s`` binary, for the lab: real etcd and Kubernetes 1.20 processes behind K3s' edges.

It says what it is in ``k3s --version``. Nothing of it is part of the product; :mod:`piclusterops.lab.k3s.build`
packs it into one executable file. Sources of its behaviour: the K3s documentation and the public K3s sources
(log texts, order of checks); what differs is listed in ``piclusterops.lab.k3s.cli.HELP``.
"""
