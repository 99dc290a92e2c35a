"""What the programs of a Job's stages have in common: the report and the progress page."""
