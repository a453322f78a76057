"""Reports: a notebook and its parameters become an executed notebook, a page, and a line in the index."""
