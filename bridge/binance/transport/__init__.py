"""WebSocket connections, whichever library carries them."""
