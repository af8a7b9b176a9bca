"""Image archives: what they hold, and how that gets out of a cache directory and into one. All of it blocks."""
