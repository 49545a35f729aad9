"""The command line of one training: a LightningCLI with our configs, run folder and messages."""
