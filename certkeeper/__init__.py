"""Let's Encrypt certificates that outlive the EC2 spot instances they are served from."""

__version__ = "0.1.0"
