"""Tickbridge copies Binance's spot streams to Kafka and Redis."""
