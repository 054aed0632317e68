"""What is run: one module a verb."""
