"""Polls that run at once, each within its time, and what is done about those that do not end."""
