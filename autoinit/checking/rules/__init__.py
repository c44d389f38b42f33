"""The rules, a file each. To add one, add a file `iniNNN_name.py` with a function under `@rule(...)`."""
