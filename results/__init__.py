"""From raw records to Parquet, and from Parquet to tables, comparisons and reports. Imports neither `loadgen` nor `workers`."""
