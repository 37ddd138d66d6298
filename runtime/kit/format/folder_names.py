"""What stands in a folder that was unpacked, beside the files of its layers."""

from typing import Final

KITFILE_NAME: Final = "Kitfile"
RECEIPT_NAME: Final = ".modelkit-receipt.json"
STAGING_NAME: Final = ".modelkit-unpack"
"""The folder where `runtime unpack` works; there only while it does, or after it was killed."""
LOST_AND_FOUND: Final = "lost+found"
"""At the top of many file systems, readable for root only."""
