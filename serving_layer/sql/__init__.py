"""SQL over the merged views, read only: DuckDB on the batch side by the column, and on the speed side's rows."""
