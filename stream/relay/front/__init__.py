"""The front process: HTTP, tokens, the page, and the processes that it keeps; no media."""
