"""Whole fleets from one seed: the real use cases on a real database, under a simulated clock, without processes."""
