"""Numbers that others have published: data files, what is known of their sources, and reading them."""
