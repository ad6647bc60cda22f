"""What experiments find in their numbers: claims and tables."""
