"""`tickbridge export`: topics to files of parquet or CSV, with a manifest."""
