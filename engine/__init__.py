"""Numbers and files: audio features, faces, media files, running a bundle. No asyncio, no torch."""
