"""Contacts in files: CSV and JSON lines."""
