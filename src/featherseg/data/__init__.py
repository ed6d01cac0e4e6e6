"""Labels as people have them: datasets and their readers, transforms, loaders. Datasets need no torch."""
