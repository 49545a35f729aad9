"""Trains several methods under one protocol and compares them: what ``jtr compare`` does."""
