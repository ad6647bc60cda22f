"""Text in: files and Python objects, tokenised and laid out as a language model reads them."""
