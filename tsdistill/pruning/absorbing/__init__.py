"""What readers and norms take over when nodes leave."""
