import core  # noqa: F401 - says what to type where the packages are missing
