"""The engine process: one generator for all rooms, over shared memory."""
