"""Claim what is due, fetch the truth, apply it: the worker side. One row per order says whether a look is owed."""
