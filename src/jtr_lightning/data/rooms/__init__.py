"""Rooms: a procedural indoor dataset with exact labels for every task, so that everything runs without a download."""
