"""The control page, and the picture and sound it plays by WebRTC."""
