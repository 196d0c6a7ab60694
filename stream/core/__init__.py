"""The session's logic: plain classes that take ``now`` and decide; no threads, no devices."""
