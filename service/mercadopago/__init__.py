"""The provider's wire: signatures, notifications, the tolerant reader, the HTTP client and its pacing."""
