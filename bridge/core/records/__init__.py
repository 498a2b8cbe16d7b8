"""Events in the form in which both sinks store them."""
