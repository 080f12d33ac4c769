"""What an experiment folder says: rankings, figures, tables and a report. Reads files; needs neither torch nor Ray."""
