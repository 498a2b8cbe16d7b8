"""Tickbridge."""
