"""`python -m workingpapers` is the command `workingpapers`."""

from workingpapers.cli import main

if __name__ == "__main__":
    main()
