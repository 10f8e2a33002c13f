"""Reports: an evaluation as Markdown, plots and a page to listen to."""
