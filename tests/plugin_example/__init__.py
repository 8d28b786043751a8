"""A package of somebody's own, which tests/test_plugins.py installs and runs."""
