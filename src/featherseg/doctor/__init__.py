"""The doctor: what is wrong with a folder of images and masks, and a clean copy of it. No torch."""
