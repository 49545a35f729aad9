"""Networks that predict all tasks from one image."""
