"""Reports: what experiments have to say, as pages, Markdown and plots."""
