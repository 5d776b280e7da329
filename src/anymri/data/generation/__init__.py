"""Training material that no scanner made, or not so: mixed, transplanted and wholly synthetic patches."""
