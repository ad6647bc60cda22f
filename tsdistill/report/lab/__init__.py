"""What the experiments of the lab look like: a module each that draws it, and how outcomes are written."""
