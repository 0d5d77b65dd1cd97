"""Searching settings: studies and the scores of their trials."""
