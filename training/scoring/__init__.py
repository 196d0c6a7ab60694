"""Finished videos, whoever made them, set against the true ones: metrics, studies, rankings."""
