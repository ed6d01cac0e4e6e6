"""Segment a video, camera or stream in real time, and write what was seen as a video.

- :mod:`.addresses`: what a source's name means: a file, a folder, a camera, a stream.
- :mod:`.sources`: frames and sound out of it.
- :mod:`.pipeline`: decoding, the network, and drawing with encoding, side by side.
- :mod:`.writer`: an H.264 file that can be played wherever it ends.
- :mod:`.smoothing`: masks that flicker less.
"""
