"""Scores of separated sound against its true parts."""
