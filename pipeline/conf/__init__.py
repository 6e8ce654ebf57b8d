"""Hydra's groups. A package, by whose name DVC finds them in a project made by `init`."""
