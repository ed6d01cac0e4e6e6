"""Writers of labels in the formats of other programs: one file per format, and no import of this package needs more."""
