"""Detection-based registration of astronomical images."""
