"""Tables and views of ClickHouse, and how a database gets them."""
