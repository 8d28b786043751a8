"""Whole studies: searches, routers and pages in one resumable command."""
