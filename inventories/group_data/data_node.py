"""What differs for the nodes that keep data: a label by which databases and buckets find them."""

node_labels = {"storage": "local"}
