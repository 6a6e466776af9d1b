"""Folders on this machine and at URLs: listing, reading and writing; knows no photos."""
