"""Measures the promises of docs/security.md: `python -m tests.trust [--long]` writes build/trust-report.md."""
