"""The parts that a synthetic street is made of; see :mod:`featherseg.data.readers.synthetic`."""
