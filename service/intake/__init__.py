"""Receive, verify, record: the only code behind the public port. A 200 means committed (invariant I1)."""
