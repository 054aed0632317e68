"""What differs for the servers; settings of a single host go beside it in the inventory file.

A master also runs pods. To keep ordinary ones away from it, in a cluster that has other nodes:

    node_taints = ["node-role.kubernetes.io/control-plane=true:NoSchedule"]
"""
