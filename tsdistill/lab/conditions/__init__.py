"""The conditions of the theorems, measured on a trained student and its teacher."""
