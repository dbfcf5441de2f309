from hypothesis import HealthCheck, settings

# The same examples on every machine and in every run: a failure is the change's, not the day's.
settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fixed")
