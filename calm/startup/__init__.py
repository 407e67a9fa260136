"""Starts the stack in order and waits until it works; stops it in reverse; says what the host lacks."""
