"""Files of models: reading those of others without unpickling them, writing our own."""
