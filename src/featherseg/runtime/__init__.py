"""From uint8 frames to masks, without torch: what runs on the device."""
