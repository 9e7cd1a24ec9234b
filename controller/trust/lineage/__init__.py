"""How an artifact came to be: signed statements, and the check that they hold together."""
