"""A council's own extract: read in its layout, judged row by row, and handed to the publisher."""
