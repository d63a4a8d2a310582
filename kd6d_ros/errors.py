"""The one error family of the package.

Every message is one line that names what is wrong, what was expected and the cure. The
command line prints it and exits with code 2; the node logs it and reports it in diagnostics.
"""


class Kd6dError(Exception):
    """Base of every error that a user's input or environment can cause."""


class ShapeError(Kd6dError):
    """An array has the wrong shape, type or non-finite values."""


class CameraError(Kd6dError):
    """Intrinsics, distortion or image size cannot be used."""


class ImageError(Kd6dError):
    """An image message or file cannot be decoded."""


class MeshError(Kd6dError):
    """A mesh file cannot be used (no faces, NaN vertices, wrong units...)."""


class CodesError(Kd6dError):
    """A file of surface codes is missing, damaged or of another object."""


class DatasetError(Kd6dError):
    """A BOP dataset, detection or result file is missing or malformed."""


class BundleError(Kd6dError):
    """A model bundle is missing, changed, malformed or too new."""


class EngineError(Kd6dError):
    """An inference engine is missing or refused the network."""


class ConfigError(Kd6dError):
    """A recipe, parameter file or command-line value is wrong."""


class TrainingError(Kd6dError):
    """Training cannot go on, e.g. because the loss is no number any more."""


class BagError(Kd6dError):
    """A bag cannot be read or lacks a needed topic."""


class MissingDependencyError(Kd6dError):
    """An optional package is missing; the message names the install command."""
