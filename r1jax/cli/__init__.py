"""The verbs of the command line that use a model: one file each, imported when the command is parsed, and light."""
