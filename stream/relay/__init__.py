"""The relay: WebRTC rooms with one lip-synced picture per language."""
