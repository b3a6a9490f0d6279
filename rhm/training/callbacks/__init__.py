"""Callbacks: what is recorded about a run while it trains."""
