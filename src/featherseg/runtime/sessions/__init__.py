"""Sessions: what runs an exported file. uint8 images in, float32 logits out, whatever engine is inside."""
