"""CCSDS 123.0-B-2, the standard for hyperspectral compression on board, as a peer. See README.md in this folder."""
