"""The studies that population-gradient is made of."""
