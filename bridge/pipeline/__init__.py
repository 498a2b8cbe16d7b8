"""From frames to the sinks: sequencing, gap repair, and the interface of a sink."""
