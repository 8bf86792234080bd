"""What ``--http`` shows of a running server to those who look after it."""
