"""What a fleet is made of: one noun a file, one ComponentResource a noun."""
