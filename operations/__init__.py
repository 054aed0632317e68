"""The idempotent verbs that change a host."""
