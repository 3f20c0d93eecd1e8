"""One file, one technology behind one port; decides nothing."""
