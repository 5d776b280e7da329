"""``python -m anymri`` is the command line."""

from anymri.cli import main

main()
