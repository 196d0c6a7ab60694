"""Learning: networks, losses, data, and the tables of metrics."""
