"""What partially labelled methods add to the supervised loss."""
