"""What people run, a file a verb: its words, tables and exit codes."""
