"""What gradient-rule is made of."""
