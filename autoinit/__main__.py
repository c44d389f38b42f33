"""`python -m autoinit`: the command line."""

from autoinit.cli import main

if __name__ == "__main__":
    main(prog_name="autoinit")
