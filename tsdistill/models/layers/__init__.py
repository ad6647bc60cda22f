"""What layers there are that multiply nodes with a weight, and how that weight is read and written."""
