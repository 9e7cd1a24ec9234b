"""What happens on the signer's own machine: follow the repository, check a release in every part, then sign it.

The controller is not trusted here. What it sends is an announcement: each part of it is compared with what the signer's
own root vouches for, downloaded and hashed, or measured again.
"""
