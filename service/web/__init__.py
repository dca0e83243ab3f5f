"""The two aiohttp applications: the public one receives webhooks, the internal one serves everything else."""
