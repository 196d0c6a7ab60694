"""A room: speakers, languages and listeners of one meeting, in a process of its own."""
