"""What all tests share."""

import os

# The names by which tests call a service in their own process. Without a token a service answers to known names only.
os.environ.setdefault("HLINK_ALLOWED_HOSTS", "hlink, service, s")
