"""What a run shows of itself: the page ``report.html``, its curves, and what W&B is told."""
