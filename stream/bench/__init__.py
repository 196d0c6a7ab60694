"""What one machine makes of the networks and of every stage of a live frame: ``bench``."""
