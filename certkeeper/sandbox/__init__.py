"""The local stack: AWS, DNS, a CA, a web server and instance metadata on loopback, for the demo and the live tests."""
