"""A project folder beside an installed package: its Snakefile, rules and `dvc.yaml`.

- `files`: which files of the repository's root it has, and where they lie in the package;
- `making`: writes them, with a record of each;
- `upgrading`: renews them, but for those that the user has edited.
"""
