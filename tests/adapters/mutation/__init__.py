"""Mutated model files: whatever a file of any format holds, loading it and predicting with it ends no process.

`python -m tests.adapters.mutation --count 2000` tries that many files a format; `--only FORMAT …` some of them;
`--keep FOLDER` writes the files that ended a process there.
"""
