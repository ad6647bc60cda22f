"""An example plugin of tsdistill."""
