"""Score trained runs on held-out clips: ``python evaluate.py [run=NAME]``; see ``--help``."""

import sys

from talkgen.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
