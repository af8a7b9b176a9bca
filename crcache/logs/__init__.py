"""What becomes of log events: which are kept, in which form, and where they go."""
