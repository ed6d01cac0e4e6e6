"""The parts that a synthetic picture of vessels is made of; see :mod:`featherseg.data.readers.synthetic`."""
