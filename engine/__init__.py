"""Numbers and files: audio features, faces, media files, and running a bundle. No asyncio, no torch."""
