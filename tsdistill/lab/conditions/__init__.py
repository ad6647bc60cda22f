"""How far the theorems' conditions hold for a real pair of models."""
