"""From raw records to Parquet, and from Parquet to everything anybody sees. Imports neither `loadgen` nor `workers`."""
