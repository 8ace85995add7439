"""What is measured of a result: bytes, milliseconds, agreement, and where the loss is, as blocks of its report."""
