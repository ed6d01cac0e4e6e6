"""The choice of a network: what is quick enough on a device is trained for a while on the user's data, and judged."""
