"""Settings of all property tests: they judge results, never speed."""

from hypothesis import HealthCheck, settings

settings.register_profile("edgefleet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgefleet")
