"""What reports look like: tables for a terminal, figures for a page."""
