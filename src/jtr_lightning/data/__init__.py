"""Datasets with a label-availability mask, as LightningDataModules."""
