"""Train a method or one of its stages: ``python train.py experiment=swaptalk``; see ``--help``."""

import sys

from talkgen.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
