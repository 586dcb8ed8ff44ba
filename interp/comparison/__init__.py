"""Several finished runs of one finder on one page."""
