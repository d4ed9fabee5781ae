"""Long checks, each a command of its own (``make stress``); the default tests run a few of each."""
