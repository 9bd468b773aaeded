"""The commands of the command line, by what they are for.

The chapter on the command line lists them all.
"""
