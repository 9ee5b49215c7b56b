"""The studio: a web page on this machine for generating, comparing and looking at runs and corpora."""
