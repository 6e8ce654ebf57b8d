"""What a workflow shows while it runs: a board on a terminal, whole lines elsewhere.

- `jobs`: what Snakemake's log events and the jobs' logs say of each job;
- `table`: the board as text;  `views`: how it gets to the terminal, or to a file;
- `display`: keeps all that Snakemake and jobs print off the terminal, in one file;
- `last_screen`: what is said when the workflow is over.
"""
