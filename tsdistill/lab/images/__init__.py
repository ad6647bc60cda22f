"""The talk's experiment on images: its networks, its data, and the trainings that it is made of."""
