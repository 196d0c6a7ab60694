"""Thin skins around the core: asyncio, threads and devices."""
