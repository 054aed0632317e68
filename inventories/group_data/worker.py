"""What differs for the workers, such as labels that pods can ask for:

node_labels = {"disk": "nvme"}
"""
