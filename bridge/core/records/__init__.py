"""Events as both sinks file them."""
