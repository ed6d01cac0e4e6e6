"""What two or more packages use: errors, value types, registries, settings, files, progress."""
