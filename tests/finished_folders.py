"""What every finished folder must be, whatever happened to the process that wrote it."""

from qface_toolkit.result.manifest import damaged_files, read_manifest


def intact(folder):
    """Return the manifest of a folder whose files are all what it says."""
    manifest = read_manifest(folder)
    assert damaged_files(folder, manifest) == {}
    return manifest
