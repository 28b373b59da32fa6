"""`python -m keras_free_adv`."""

from keras_free_adv.command_line.main import main

if __name__ == "__main__":
    main()
