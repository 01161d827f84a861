"""What two systems or more share, one file per matter."""
