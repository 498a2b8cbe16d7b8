"""The path from frames to the sinks: the pipeline, gap repair, and the interface of a sink."""
