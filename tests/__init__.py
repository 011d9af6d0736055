"""Tests."""

from hypothesis import HealthCheck, settings

# Nothing here is timed: a busy machine must not fail a test.
settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("calm")
