"""Arrow Flight SQL: the views for drivers (ADBC, JDBC, ODBC), which notebooks and BI tools bring."""
