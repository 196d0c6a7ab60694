"""Time: what is live, and the commands that users start."""
