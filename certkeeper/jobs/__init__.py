"""One file, one verb: ports in, values out; nothing printed."""
