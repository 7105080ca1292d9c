"""The nets, one file each."""
