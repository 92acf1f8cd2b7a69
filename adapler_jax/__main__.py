"""Run the `adapler` command as `python -m adapler_jax`."""

from adapler_jax.cli.main import main

if __name__ == "__main__":
    main()
