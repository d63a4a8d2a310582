"""Random examples without a time limit each: machines under load are slow, not wrong."""

from hypothesis import settings

settings.register_profile('unhurried', deadline=None)
settings.load_profile('unhurried')
