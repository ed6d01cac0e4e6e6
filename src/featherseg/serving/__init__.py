"""Networks over HTTP: pictures in, masks out, for programs anywhere; no torch is imported."""
