"""talkgen: train, compare and use talking-face models (SwapTalk, Diff2Lip, DisentTalk)."""

__version__ = "0.1.0"
