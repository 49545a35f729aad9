"""What happens beside the training: the run folder, written predictions, pictures."""
