"""``python -m misgiving``: the command, wherever its script is not on the path."""

from misgiving.runtime.verbs.command import main

if __name__ == "__main__":
    main()
