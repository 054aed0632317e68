"""What a node of a role becomes."""
