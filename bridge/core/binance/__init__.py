"""Binance's payloads, REST rows, subscriptions and limits."""
