"""Turns a folder of labelled photos into an image classifier by training the last layer of a frozen network."""

__version__ = "0.1.0"
