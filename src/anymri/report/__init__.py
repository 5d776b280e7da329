"""Score tables and patients → pictures, pages and tables that stand by themselves."""
