"""Roots, delegations and who holds them: changed by people over a folder, or by a single operator at once."""
