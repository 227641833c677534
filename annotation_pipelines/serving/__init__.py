"""The champion at work outside the pipeline: on files, and over HTTP."""
