"""Experiments as data, the runner that trains, codes and compares, classical codecs as peers, and reports.

Everything here knows the protocols of `cbench.codec`, never a paper.
"""
