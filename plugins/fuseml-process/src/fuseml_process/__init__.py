"""The built-in workload agent: jobs and services as local processes."""
