"""Binance's payloads, rows, stream names and limits."""
