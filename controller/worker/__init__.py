"""Celery: thin tasks by name, the schedule, and the embedded wiring."""
