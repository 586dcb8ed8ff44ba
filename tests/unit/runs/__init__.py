"""Tests of scan() and its run folder."""
