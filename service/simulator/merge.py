"""Copies and deep merges of JSON: objects by key, arrays by index, null removes."""

from typing import Any


def copied(value: Any) -> Any:
    """A copy of a JSON value that shares no object or array with it (several times faster than `deepcopy`)."""
    if isinstance(value, dict):
        return {name: copied(item) for name, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def deep_merge(base: Any, change: Any) -> Any:
    """A new value: `base` with `change` laid over it. Neither is altered.

    Extra array items are appended; a null in an object or array removes that key or item.
    """
    if isinstance(base, dict) and isinstance(change, dict):
        merged = {key: value for key, value in base.items() if not (key in change and change[key] is None)}
        for key, value in change.items():
            if value is not None:
                merged[key] = deep_merge(merged.get(key), value)
        return merged
    if isinstance(base, list) and isinstance(change, list):
        overlaid = [deep_merge(old, new) for old, new in zip(base, change, strict=False) if new is not None]
        return [
            *overlaid,
            *copied(base[len(change) :]),
            *copied([item for item in change[len(base) :] if item is not None]),
        ]
    return copied(change)
